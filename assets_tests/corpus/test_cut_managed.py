"""What is cut out of Java, C#, Kotlin, Scala and Swift."""

from __future__ import annotations

import pytest

from assets_tests.corpus.samples import Sample, by_symbol, cut_sample

JAVA = Sample(
    "java",
    """\
/* Copyright (c) 2024. Licensed under the Apache License. */
package com.shop;

import java.util.List;

/**
 * Orders of one customer, the newest first.
 *
 * @author nobody
 */
@Entity
public class Orders<T extends Item> implements Iterable<T> {
    private final List<T> items;
    public static final int MAX = 10;

    static { load(); }

    /** Makes orders from a list of items. */
    public Orders(List<T> items) {
        this.items = items;
    }

    // Finds the item with the given name.
    @Override
    public T find(String name) throws Missing {
        for (T item : items) {
            if (item.name().equals(name)) return item;
        }
        throw new Missing(name);
    }

    public T find(int index) { return items.get(index); }

    enum State {
        OPEN, CLOSED;
        boolean isOpen() { return this == OPEN; }
    }

    interface Visitor<R> {
        R visit(Orders<?> orders);
        default R none() { return null; }
    }
}

record Money(long cents, String currency) {
    Money {
        if (cents < 0) throw new IllegalArgumentException();
    }
    Money plus(Money other) { return new Money(cents + other.cents, currency); }
}

@interface Slow { int value() default 1; }
""",
    """\
6-43 class Orders | Orders of one customer, the newest first.
18-21 method Orders.Orders | Makes orders from a list of items.
23-30 method Orders.find | Finds the item with the given name.
32-32 method Orders.find#2
34-37 class Orders.State
36-36 method Orders.State.isOpen
39-42 class Orders.Visitor
41-41 method Orders.Visitor.none
45-50 class Money
46-48 method Money.Money
49-49 method Money.plus
52-52 class Slow
""",
)

CSHARP = Sample(
    "csharp",
    """\
using System;

namespace Shop.Billing
{
    /// <summary>
    /// Sends invoices to customers by mail.
    /// </summary>
    /// <remarks>Slow.</remarks>
    [Serializable]
    public class Mailer<T> : IMailer where T : class
    {
        private readonly int _retries = 3;
        public string Name { get; set; }
        public int Total
        {
            get { return _retries * 2; }
        }
        public event EventHandler Sent;

        public Mailer(int retries) : base() { _retries = retries; }

        /// <summary>Sends one invoice and says whether it arrived.</summary>
        /// <param name="invoice">What to send.</param>
        public async Task<bool> SendAsync(Invoice invoice)
        {
            await Task.Delay(1);
            int Twice(int x)
            {
                var y = x;
                y += x;
                return y;
            }
            return true;
        }

        public int Count() => _retries;
        public static Mailer<T> operator +(Mailer<T> a, Mailer<T> b) => a;
        ~Mailer() { }
        public int this[int i] { get { return i; } }

        private enum Mode { Fast, Slow }
    }

    public record Money(decimal Amount, string Currency)
    {
        public Money Half() => this with { Amount = Amount / 2 };
    }
    public record struct P(int X);
    public interface IMailer { Task<bool> SendAsync(Invoice invoice); }
    struct Size { public int W; }
}
""",
    """\
5-42 class Shop.Billing.Mailer | Sends invoices to customers by mail.
14-17 method Shop.Billing.Mailer.Total
20-20 method Shop.Billing.Mailer.Mailer
22-34 method Shop.Billing.Mailer.SendAsync | Sends one invoice and says whether it arrived.
27-32 function Shop.Billing.Mailer.SendAsync.Twice
36-36 method Shop.Billing.Mailer.Count
37-37 method Shop.Billing.Mailer.+
38-38 method Shop.Billing.Mailer.Finalize
39-39 method Shop.Billing.Mailer.this[]
41-41 class Shop.Billing.Mailer.Mode
44-47 class Shop.Billing.Money
46-46 method Shop.Billing.Money.Half
48-48 class Shop.Billing.P
49-49 class Shop.Billing.IMailer
50-50 class Shop.Billing.Size
""",
)

KOTLIN = Sample(
    "kotlin",
    """\
package com.shop

import java.io.IOException

/**
 * A customer with a name and an age.
 *
 * @property name how to call them
 */
data class Customer(val name: String, val age: Int) : Base(), Named {
    private val orders = mutableListOf<Order>()
    val adult: Boolean
        get() = age >= 18

    init { require(age >= 0) }

    constructor(name: String) : this(name, 0) { println(name) }

    /** Places an order and gives its number. */
    @Throws(IOException::class)
    override suspend fun order(item: Item): Int {
        orders.add(Order(item))
        return orders.size
    }

    companion object {
        const val MAX = 3
        fun of(name: String) = Customer(name, 0)
    }
}

// Shouts a text in capital letters.
fun String.shout(): String {
    return uppercase() + "!"
}

fun <T> List<T>.second(): T = this[1]

object Registry {
    fun add(c: Customer) { println(c) }
}

interface Named {
    val name: String
    fun greet(): String
}

enum class Color(val rgb: Int) {
    RED(1),
    GREEN(2);

    fun hex(): String {
        fun pad(s: String) = s.padStart(6, '0')
        return pad(rgb.toString(16))
    }
}
""",
    """\
5-30 class Customer | A customer with a name and an age.
12-13 method Customer.adult
17-17 method Customer.constructor
19-24 method Customer.order | Places an order and gives its number.
28-28 method Customer.of
32-35 method String.shout | Shouts a text in capital letters.
37-37 method List.second
39-41 class Registry
40-40 method Registry.add
43-46 class Named
48-56 class Color
52-55 method Color.hex
""",
)

SCALA = Sample(
    "scala",
    """\
package com.shop

import scala.util.Try

/** A basket of things that can be weighed.
  *
  * @param owner whose it is
  */
case class Basket[A](owner: String, items: List[A]) extends Weighed {
  val limit = 10

  /** Adds an item and gives the new basket. */
  def add(item: A): Basket[A] = {
    val more = item :: items
    copy(items = more)
  }

  def size: Int = items.size
  def this(owner: String) = this(owner, Nil)
}

object Basket {
  // Makes a basket without items.
  def empty[A](owner: String): Basket[A] = Basket(owner, Nil)
  implicit class Rich(val x: Int) { def twice = x * 2 }
}

trait Weighed {
  def weight: Double
  def heavy: Boolean = weight > 10
}

extension (s: String)
  def shout: String = s.toUpperCase

enum Color:
  case Red, Green
  def hex: String = "x"

given byWeight: Ordering[Weighed] with
  def compare(a: Weighed, b: Weighed): Int = 0

package object util { def help() = 1 }
""",
    """\
5-20 class Basket | A basket of things that can be weighed.
12-16 method Basket.add | Adds an item and gives the new basket.
18-18 method Basket.size
19-19 method Basket.this
22-26 class Basket#2
23-24 method Basket.empty | Makes a basket without items.
25-25 class Basket.Rich
25-25 method Basket.Rich.twice
28-31 class Weighed
30-30 method Weighed.heavy
34-34 method String.shout
36-38 class Color
38-38 method Color.hex
41-41 method byWeight.compare
43-43 class util
43-43 method util.help
""",
)

SWIFT = Sample(
    "swift",
    """\
import Foundation

/// A queue of jobs that run one after another.
///
/// - Note: not thread safe
@objc public final class JobQueue<T>: NSObject, Runner where T: Equatable {
    private var jobs: [T] = []
    var count: Int { return jobs.count }
    static let shared = 1

    /// Makes an empty queue with a limit.
    public init(limit: Int) {
        self.limit = limit
    }

    deinit { print("gone") }

    // Adds a job to the end.
    @discardableResult
    public func add(_ job: T, at index: Int = 0) throws -> Int {
        jobs.append(job)
        return jobs.count
    }

    subscript(i: Int) -> T { return jobs[i] }
    static func == (a: JobQueue, b: JobQueue) -> Bool { true }
}

struct Point { var x: Int; var y: Int }

enum Direction: String {
    case north, south
    func turn() -> Direction { .south }
}

protocol Runner {
    func run() async
    var name: String { get }
}

extension String: Runner {
    /// Shouts the text in capitals.
    func shout() -> String { uppercased() }
}

func helper<T>(x: T) -> T {
    return x
}
actor Bank { func pay() {} }
extension Array where Element == Int { func total() -> Int { 0 } }
""",
    """\
3-27 class JobQueue | A queue of jobs that run one after another.
8-8 method JobQueue.count
11-14 method JobQueue.init | Makes an empty queue with a limit.
16-16 method JobQueue.deinit
18-23 method JobQueue.add | Adds a job to the end.
25-25 method JobQueue.subscript
26-26 method JobQueue.==
29-29 class Point
31-34 class Direction
33-33 method Direction.turn
36-39 class Runner
42-43 method String.shout | Shouts the text in capitals.
46-48 function helper
49-49 class Bank
49-49 method Bank.pay
50-50 method Array.total
""",
)

SAMPLES = [JAVA, CSHARP, KOTLIN, SCALA, SWIFT]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.language)
def test_definitions_are_found_with_their_place_kind_name_and_documentation(sample: Sample) -> None:
    assert cut_sample(sample) == sample.expected


def test_extensions_of_nested_types_have_the_name_of_the_inner_one() -> None:
    kotlin = """\
fun Map.Entry<K, V>.turned(): Int {
    return 1
}
fun String.shout(): String {
    return this + "!"
}
val String.initials: String
    get() = this.take(1)
val Map.Entry<K, V>?.both: Int
    get() = 2
val plain: Int
    get() = 1
"""
    assert list(by_symbol("kotlin", kotlin)) == [
        "Entry.turned",
        "String.shout",
        "String.initials",
        "Entry.both",
        "plain",
    ]
    swift = """\
extension Foo.Bar<Int> {
    func baz() -> Int { return 1 }
}
extension Foo {
    func baz() -> Int { return 2 }
}
"""
    assert list(by_symbol("swift", swift)) == ["Foo.Bar.baz", "Foo.baz"]
