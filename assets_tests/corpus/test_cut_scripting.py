"""What is cut out of Python, Ruby, PHP, Elixir, Lua and Bash."""

from __future__ import annotations

import pytest

from assets_tests.corpus.samples import Sample, cut_sample

PYTHON = Sample(
    "python",
    '''\
# Copyright 2024 The Shop. All rights reserved.
"""Module documentation is no snippet's."""
from typing import overload


@overload
def load(path: str) -> str: ...
@overload
def load(path: bytes) -> bytes: ...
def load(path):
    """Load a file
    into memory.

    Parameters
    ----------
    path : str
    """
    return open(path).read()


@register("cart")
@dataclass(frozen=True)
class Cart(Base, metaclass=Meta):
    """Holds what a customer wants to buy."""

    limit: int = 10

    def __init__(self, owner):
        self.owner = owner

    @property
    def total(self) -> int:
        # just a comment
        return 1

    class Line:
        async def run(self): pass


# Makes the thing that counts.
# pylint: disable=invalid-name
def counter():
    def tiny(x): return x

    def big(x):
        y = tiny(x)
        y += 1
        return y

    def told(x):
        "Tell what x is about to be."
        return x

    return big


# def old(x):
#     return x
if True:
    def conditional(): pass
else:
    def conditional():
        pass
''',
    """\
6-7 function load
8-9 function load#2
10-18 function load#3 | Load a file into memory.
21-37 class Cart | Holds what a customer wants to buy.
28-29 method Cart.__init__
31-34 method Cart.total
36-37 class Cart.Line
37-37 method Cart.Line.run
40-54 function counter | Makes the thing that counts.
45-48 function counter.big
50-52 function counter.told | Tell what x is about to be.
60-60 function conditional
62-63 function conditional#2
""",
)

RUBY = Sample(
    "ruby",
    """\
# frozen_string_literal: true
# Copyright 2024

module Shop
  # Keeps the things a customer wants to buy.
  #
  # @example
  #   Cart.new
  class Cart < Base
    attr_reader :items
    LIMIT = 10

    # Makes an empty cart for one customer.
    # @param customer [Customer]
    def initialize(customer)
      @customer = customer
    end

    def self.build(*args)
      new(*args)
    end

    class << self
      def none = nil
    end

    def total
      items.sum do |item|
        item.price
      end
    end

    private

    def empty? = items.empty?
    def <<(item)
      items << item
    end
  end

  class Error < StandardError; end
  class Admin::Panel
    def show; end
  end
end

def helper(x)
  x
end
Point = Struct.new(:x, :y) do
  def dist
    Math.sqrt(x)
  end
end
""",
    """\
4-45 class Shop
5-39 class Shop.Cart | Keeps the things a customer wants to buy.
13-17 method Shop.Cart.initialize | Makes an empty cart for one customer.
19-21 method Shop.Cart.build
24-24 method Shop.Cart.none
27-31 method Shop.Cart.total
35-35 method Shop.Cart.empty?
36-38 method Shop.Cart.<<
41-41 class Shop.Error
42-44 class Shop.Admin.Panel
43-43 method Shop.Admin.Panel.show
47-49 function helper
50-54 class Point
51-53 method Point.dist
""",
)

PHP = Sample(
    "php",
    r"""<?php
/**
 * Licence text.
 */
namespace App\Models;

use App\Base;

/**
 * A customer of the shop with an address.
 *
 * @property string $name
 */
#[Entity]
final class Customer extends Base implements Named
{
    use Timestamps;
    const LIMIT = 3;
    private ?string $name = null;

    /**
     * Gives the full name in capital letters.
     *
     * @return string
     */
    public function fullName(string $sep = ' '): string
    {
        return strtoupper($this->name);
    }

    public static function make(): self { return new self(); }
}

interface Named { public function fullName(): string; }
trait Timestamps { public function touch() { $this->at = time(); } }
enum Suit: string { case Hearts = 'H'; public function label(): string { return 'x'; } }

// Greets a person by name.
function greet($name) {
    echo "Hello $name";
}
$twice = function ($x) { return 2 * $x; };
$thrice = fn($x) => 3 * $x;
""",
    """\
9-32 class App.Models.Customer | A customer of the shop with an address.
21-29 method App.Models.Customer.fullName | Gives the full name in capital letters.
31-31 method App.Models.Customer.make
34-34 class App.Models.Named
35-35 class App.Models.Timestamps
35-35 method App.Models.Timestamps.touch
36-36 class App.Models.Suit
36-36 method App.Models.Suit.label
38-41 function App.Models.greet | Greets a person by name.
42-42 function App.Models.twice
43-43 function App.Models.thrice
""",
)

ELIXIR = Sample(
    "elixir",
    '''\
defmodule Shop.Cart do
  @moduledoc """
  A cart that holds what a customer wants to buy.

  More text.
  """
  use GenServer
  @limit 10

  defstruct [:items, :owner]

  @doc """
  Puts an item into the cart and gives the new cart.

  ## Examples

      iex> Cart.put(c, 1)
  """
  @spec put(t(), term()) :: t()
  def put(cart, item) when is_list(cart) do
    items = [item | cart.items]
    %{cart | items: items}
  end

  def put(cart, nil), do: cart

  @doc false
  def hidden, do: nil

  # Counts the items of a cart.
  defp count(%{items: items}) do
    length(items)
  end

  @doc "Doubles a number by macro magic."
  defmacro double(x) do
    quote do: unquote(x) * 2
  end

  defmodule Inner do
    def a(x), do: x
  end

  @impl true
  def init(state) do
    {:ok, state}
  end
end

defprotocol Size do
  @doc "Gives the size of a thing."
  def size(data)
end

defimpl Size, for: Map do
  def size(map), do: map_size(map)
end
''',
    """\
1-48 module Shop.Cart | A cart that holds what a customer wants to buy.
12-25 function Shop.Cart.put | Puts an item into the cart and gives the new cart.
27-28 function Shop.Cart.hidden
30-33 function Shop.Cart.count | Counts the items of a cart.
35-38 function Shop.Cart.double | Doubles a number by macro magic.
40-42 module Shop.Cart.Inner
41-41 function Shop.Cart.Inner.a
44-47 function Shop.Cart.init
50-53 module Size
51-52 function Size.size | Gives the size of a thing.
55-57 module Size.Map
56-56 function Size.Map.size
""",
)

LUA = Sample(
    "lua",
    """\
-- Queue module.
local M = {}

--- Puts a value at the end of the queue.
-- @param q the queue
function M.push(q, value)
  q[#q + 1] = value
end

function M:pop()
  return table.remove(self, 1)
end

-- Counts the values.
local function count(q)
  return #q
end

M.peek = function(q)
  return q[1]
end

local double = function(x) return x * 2 end

local t = {
  run = function(self) return 1 end,
}

--[[ Says whether the
queue is empty now. ]]
function empty(q) return #q == 0 end
return M
""",
    """\
4-8 function M.push | Puts a value at the end of the queue.
10-12 method M.pop
14-17 function count
19-21 function M.peek
23-23 function double
26-26 method t.run
29-31 function empty | Says whether the queue is empty now.
""",
)

BASH = Sample(
    "bash",
    """\
#!/usr/bin/env bash
set -euo pipefail

# Prints a message to standard error.
log() {
  echo "$@" >&2
}

function deploy {
  local target="$1"
  if [[ -z "$target" ]]; then
    log "no target"
    return 1
  fi
  case "$target" in
    a) echo a ;;
    *) echo b ; echo c ;;
  esac
  for f in *; do
    echo "$f"
  done
}
function both() { echo 1; }
sub() ( cd /tmp && ls )
""",
    """\
4-7 function log | Prints a message to standard error.
9-22 function deploy
23-23 function both
24-24 function sub
""",
)

SAMPLES = [PYTHON, RUBY, PHP, ELIXIR, LUA, BASH]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.language)
def test_definitions_are_found_with_their_place_kind_name_and_documentation(sample: Sample) -> None:
    assert cut_sample(sample) == sample.expected
