"""What is cut out of Go, Rust, C and C++."""

from __future__ import annotations

import pytest

from assets_tests.corpus.samples import Sample, by_symbol, cut_sample

GO = Sample(
    "go",
    """\
// Copyright 2024 The Authors. All rights reserved.

// Package cache keeps values.
package cache

import "sync"

// Cache maps keys to values and forgets the oldest.
type Cache[K comparable] struct {
	mu    sync.Mutex
	items map[K]string
}

// Store is what a cache writes to.
type Store interface {
	Get(key string) (string, error)
	Put(key, value string) error
}

type (
	// Key names a value.
	Key string
	node struct{ next *node }
)

// New makes an empty cache that holds limit values.
//
// It panics if limit is negative.
func New(limit int) *Cache[string] {
	return &Cache[string]{}
}

// Get looks a value up under its key.
func (c *Cache[K]) Get(key K) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.items[key]
	return v, ok
}

func (n node) String() string { return "node" }

func init() {}

func init() {}

//go:noinline
func helper(n int) int { return n }
""",
    """\
8-12 class Cache | Cache maps keys to values and forgets the oldest.
14-18 class Store | Store is what a cache writes to.
21-22 class Key | Key names a value.
23-23 class node
26-31 function New | New makes an empty cache that holds limit values.
33-39 method Cache.Get | Get looks a value up under its key.
41-41 method node.String
43-43 function init
45-45 function init#2
48-48 function helper
""",
)

RUST = Sample(
    "rust",
    """\
//! Crate documentation.

/// A stack that grows as needed.
///
/// # Examples
/// ```
/// let s = Stack::new();
/// ```
#[derive(Debug, Clone)]
pub struct Stack<T> {
    items: Vec<T>,
}

pub enum Level { Low, High(u8) }

pub trait Drain {
    /// Empties it and counts what was in it.
    fn drain(&mut self) -> usize;
    fn twice(&mut self) -> usize {
        self.drain() + self.drain()
    }
}

impl<T> Stack<T> {
    /// Makes an empty stack with room for nothing.
    #[inline]
    pub fn new() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T: Clone> Drain for Stack<T> {
    fn drain(&mut self) -> usize {
        let n = self.items.len();
        self.items.clear();
        n
    }
}

impl fmt::Display for crate::Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result { Ok(()) }
}

mod inner {
    pub async fn helper() -> u8 { 1 }

    #[cfg(test)]
    mod tests {
        #[test]
        fn works() { assert!(true); }
    }
}

macro_rules! square {
    ($x:expr) => { $x * $x };
}

union U { a: u8 }
struct Pair(u8, u8);
""",
    """\
3-12 class Stack | A stack that grows as needed.
14-14 class Level
16-22 class Drain
19-21 method Drain.twice
25-29 method Stack.new | Makes an empty stack with room for nothing.
33-37 method Stack.drain
41-41 method Level.fmt
45-45 function inner.helper
49-50 function inner.tests.works
54-56 function square
58-58 class U
59-59 class Pair
""",
)

C = Sample(
    "c",
    """\
/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* A point in the plane. */
struct point {
    int x;
    int y;
};

typedef struct {
    char *name;
} person_t;

enum color { RED, GREEN };

int compare(const void *a, const void *b);

/**
 * Computes the length of a string without its end.
 */
static size_t length_of(const char *s)
{
    size_t n = 0;
    while (*s++)
        n++;
    return n;
}

char *copy(const char *s) { return strdup(s); }

int (*pick(int n))(int) {
    return 0;
}

#ifdef DEBUG
void dump(void) { puts("dump"); }
#endif

/* int removed(void) { return 1; } */
static int
old(a, b)
    int a;
    int b;
{
    return a + b;
}
""",
    """\
6-10 class point | A point in the plane.
12-14 class person_t
16-16 class color
20-29 function length_of | Computes the length of a string without its end.
31-31 function copy
33-35 function pick
38-38 function dump
42-48 function old
""",
)

CPP = Sample(
    "cpp",
    """\
// Geometry of the plane.
#include <vector>

namespace geo::plane {

/// A polygon made of its corners.
template <typename T>
class Polygon : public Shape {
 public:
  explicit Polygon(std::vector<T> corners) : corners_(std::move(corners)) {}
  ~Polygon() override = default;

  // Gives the area by the shoelace formula.
  double area() const override {
    return 0.5;
  }

  bool operator==(const Polygon& other) const;
  T& operator[](int i) { return corners_[i]; }
  static int count;

 private:
  std::vector<T> corners_;
  struct Edge { T a; T b; };
};

namespace {
int hidden(int x) { return x; }
}

}  // namespace geo::plane

template <typename T>
bool geo::plane::Polygon<T>::operator==(const Polygon& other) const {
  return true;
}

void Widget::draw(Canvas& canvas) {
  canvas.line(0, 0);
}

Widget::Widget() : x_(0) {}
Widget::~Widget() {}
auto Widget::size() const -> int { return 1; }
int* make() { return nullptr; }
const std::string& Widget::name() const { return name_; }
enum class Mode { On, Off };
extern "C" {
int exported(void) { return 1; }
}
struct Ratio { operator double() const { return 1.0; } };
""",
    """\
6-25 class geo.plane.Polygon | A polygon made of its corners.
10-10 method geo.plane.Polygon.Polygon
13-16 method geo.plane.Polygon.area | Gives the area by the shoelace formula.
19-19 method geo.plane.Polygon.operator[]
24-24 class geo.plane.Polygon.Edge
28-28 function geo.plane.hidden
33-36 method geo.plane.Polygon.operator==
38-40 method Widget.draw
42-42 method Widget.Widget
43-43 method Widget.~Widget
44-44 method Widget.size
45-45 function make
46-46 method Widget.name
47-47 class Mode
49-49 function exported
51-51 class Ratio
51-51 method Ratio.operator
""",
)

SAMPLES = [GO, RUST, C, CPP]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.language)
def test_definitions_are_found_with_their_place_kind_name_and_documentation(sample: Sample) -> None:
    assert cut_sample(sample) == sample.expected


def test_specialisations_and_conversions_outside_their_class() -> None:
    source = """\
template <>
std::string name<Foo>(int a) {
  return "foo";
}
template <>
int *first<Bar>() {
  return 0;
}
Foo::operator bool() const {
  return true;
}
"""
    found = {name: snippet.kind for name, snippet in by_symbol("cpp", source).items()}
    assert found == {"name": "function", "first": "function", "Foo.operator": "method"}
