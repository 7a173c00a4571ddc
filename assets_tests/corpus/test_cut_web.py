"""What is cut out of JavaScript, TypeScript and TSX."""

from __future__ import annotations

import pytest

from assets_tests.corpus.samples import Sample, by_symbol, cut, cut_sample

JAVASCRIPT = Sample(
    "javascript",
    """\
/**
 * Licensed under MIT. Copyright 2024 Somebody.
 */
import { get } from "./http.js";

// Adds two numbers and rounds the sum.
export function add(a, b) {
  return Math.round(a + b);
}

/** Fetches one page of orders from the server. */
export const fetchOrders = async (page) => {
  const answer = await get(`/orders?page=${page}`);
  return answer.json();
};

const half = (x) => x / 2;

/** Keeps orders in memory. */
export default class OrderBook extends Base {
  #orders = new Map();
  limit = 10;

  /**
   * Puts an order into the book.
   * @param {Order} order what to keep
   */
  put(order) {
    this.#orders.set(order.id, order);
  }

  static empty() {
    return new OrderBook();
  }

  get size() {
    return this.#orders.size;
  }

  set size(n) {
    throw new Error(n);
  }

  onClick = (event) => {
    this.put(event.order);
  };
}

const handlers = {
  open(name) {
    return name;
  },
  close: function (name) {
    return null;
  },
  "on-end": () => 3,
};

module.exports.load = function load(path) {
  return path;
};

OrderBook.prototype.clear = function () {
  this.limit = 0;
};

function* ids() {
  yield 1;
}

export default function () {
  return 42;
}
""",
    """\
6-9 function add | Adds two numbers and rounds the sum.
11-15 function fetchOrders | Fetches one page of orders from the server.
17-17 function half
19-47 class OrderBook | Keeps orders in memory.
24-30 method OrderBook.put | Puts an order into the book.
32-34 method OrderBook.empty
36-38 method OrderBook.size
40-42 method OrderBook.size#2
44-46 method OrderBook.onClick
50-52 method handlers.open
53-55 method handlers.close
56-56 method handlers.on-end
59-61 function load
63-65 method OrderBook.clear
67-69 function ids
71-73 function default
""",
)

TYPESCRIPT = Sample(
    "typescript",
    """\
/** Something with an area that can be drawn. */
export interface Shape {
  /** Area in square metres. */
  area(): number;
  readonly name: string;
}

export type Point = { x: number; y: number };

enum Color {
  Red,
  Green,
}

// Parses a length such as "3 m" into metres.
export function parse(text: string): number;
export function parse(text: string, unit: string): number;
export function parse(text: string, unit = "m"): number {
  return Number(text.replace(unit, ""));
}

@Component({ selector: "app" })
export abstract class Figure<T> implements Shape {
  private corners: T[] = [];
  constructor(public readonly name: string) {
    this.corners = [];
  }
  abstract area(): number;

  @Input()
  protected move(by: Point): void {
    this.corners.push(by as T);
  }

  readonly scale = (factor: number): number => factor * 2;
}

namespace Geometry.Plane {
  export function distance(a: Point, b: Point): number {
    return Math.hypot(a.x - b.x, a.y - b.y);
  }
}

declare module "legacy" {
  export function old(): void;
}
const twice = <T>(x: T): T[] => [x, x];
""",
    """\
1-6 class Shape | Something with an area that can be drawn.
8-8 class Point
10-13 class Color
15-16 function parse | Parses a length such as "3 m" into metres.
17-17 function parse#2
18-20 function parse#3
22-36 class Figure
25-27 method Figure.constructor
30-33 method Figure.move
35-35 method Figure.scale
39-41 function Geometry.Plane.distance
45-45 function legacy.old
47-47 function twice
""",
)

TSX = Sample(
    "tsx",
    """\
interface Props {
  title: string;
}

/** Shows a title that can be clicked. */
export const Title: React.FC<Props> = ({ title }) => {
  const [open, setOpen] = useState(false);

  const toggle = () => {
    setOpen(!open);
    log("toggled");
    track(title);
  };

  return <h1 onClick={toggle}>{title}</h1>;
};

export default function App() {
  return <Title title="Hello" />;
}
export const Memo = React.memo(function Inner() { return <b/>; });
""",
    """\
1-3 class Props
5-16 function Title | Shows a title that can be clicked.
9-13 function Title.toggle
18-20 function App
21-21 function Memo
""",
)

SAMPLES = [JAVASCRIPT, TYPESCRIPT, TSX]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.language)
def test_definitions_are_found_with_their_place_kind_name_and_documentation(sample: Sample) -> None:
    assert cut_sample(sample) == sample.expected


def test_a_function_that_is_given_to_another_is_found_by_the_name_of_what_comes_of_it() -> None:
    source = """\
export const getUser = asyncHandler(async (req, res) => {
  res.json(await find(req.id));
});
const load = createAsyncThunk("load", async () => {
  return api.load();
});
const doubled = numbers.map(n => 2 * n);
"""
    for language in ("javascript", "typescript"):
        found = by_symbol(language, source)
        assert {name: snippet.kind for name, snippet in found.items()} == {
            "getUser": "function",
            "load": "function",
        }
        assert found["getUser"].code.startswith("export const getUser = asyncHandler(")


def test_a_key_that_looks_like_the_second_part_of_something_is_no_part() -> None:
    long = "".join(f"  step({n});\n" for n in range(200))
    source = f'const api = {{ "get": function () {{\n{long}}}, "get@2": function () {{ return 1; }} }};\n'
    symbols = [snippet.symbol for snippet in cut("javascript", source, 64).snippets]
    assert {"api.get", "api.get@2", "api.get_2"} <= set(symbols)
    assert len(symbols) == len(set(symbols))
