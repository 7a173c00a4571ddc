(comment) @comment

((unary_operator
  operand: (call
    target: (identifier) @_doc
    (arguments
      [
        (string)
        (sigil)
      ]))) @comment
  (#any-of? @_doc "doc" "typedoc"))

((unary_operator
  operand: (call
    target: (identifier) @_doc
    (arguments
      [
        (string)
        (sigil)
      ]))) @docstring
  (#eq? @_doc "moduledoc"))

((unary_operator
  operand: (call
    target: (identifier) @_attribute)) @attribute
  (#any-of? @_attribute "doc" "spec" "impl" "deprecated" "since" "dialyzer" "tag"))

((call
  target: (identifier) @_define
  (arguments
    .
    (alias) @name)
  (do_block) @body) @module
  (#any-of? @_define "defmodule" "defprotocol"))

; defimpl Size, for: Map defines the module Size.Map
((call
  target: (identifier) @_define
  (arguments
    .
    (alias) @receiver
    (keywords
      (pair
        value: (alias) @name)))
  (do_block) @body) @module
  (#eq? @_define "defimpl"))

((call
  target: (identifier) @_define
  (arguments
    .
    [
      (identifier) @name
      (call
        target: (identifier) @name)
      (binary_operator
        left: [
          (identifier) @name
          (call
            target: (identifier) @name)
        ]
        operator: "when")
    ])
  (do_block) @body) @function.clause
  (#any-of? @_define "def" "defp" "defmacro" "defmacrop" "defn" "defnp"))

((call
  target: (identifier) @_define
  (arguments
    .
    [
      (identifier) @name
      (call
        target: (identifier) @name)
      (binary_operator
        left: [
          (identifier) @name
          (call
            target: (identifier) @name)
        ]
        operator: "when")
    ]
    (keywords
      (pair
        value: (_) @body))?)) @function.clause
  (#any-of? @_define
    "def" "defp" "defmacro" "defmacrop" "defguard" "defguardp" "defdelegate" "defn" "defnp"))

(do_block) @block

(else_block) @clause @block

(rescue_block) @clause @block

(catch_block) @clause @block

(after_block) @clause @block

(body) @block
