(comment) @comment

(multiline_comment) @comment

(attribute) @attribute

; An extension names a type; a class, struct, enum or actor has a name.
(class_declaration
  name: (type_identifier) @name
  body: (_) @body) @class

(class_declaration
  name: (user_type
    (type_identifier) @receiver
    .
    (type_identifier) @name)
  body: (_)) @scope.type

(class_declaration
  name: (user_type
    (type_identifier) @name)
  body: (_)) @scope.type

(protocol_declaration
  name: (type_identifier) @name
  body: (_) @body) @class

(function_declaration
  "func"
  .
  _ @name
  body: (function_body) @body) @function

(init_declaration
  body: (function_body) @body
  (#set! name "init")) @method

(deinit_declaration
  body: (function_body) @body
  (#set! name "deinit")) @method

(subscript_declaration
  (computed_property) @body
  (#set! name "subscript")) @method

(property_declaration
  name: (pattern
    bound_identifier: (simple_identifier) @name)
  computed_value: (computed_property) @body) @function

(statements) @block

(switch_statement) @block
