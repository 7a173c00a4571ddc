(line_comment) @comment

(block_comment) @comment

(annotation) @attribute

(class_declaration
  name: (identifier) @name
  [
    (class_body)
    (enum_class_body)
  ] @body) @class

(class_declaration
  name: (identifier) @name) @class

(object_declaration
  name: (identifier) @name
  (class_body) @body) @class

(object_declaration
  name: (identifier) @name) @class

; What is in a companion is called by the class's own name.
(companion_object) @scope.type

; Extensions
(function_declaration
  [
    (user_type
      (identifier)
      .
      (identifier) @receiver)
    (nullable_type
      (user_type
        (identifier)
        .
        (identifier) @receiver))
  ]
  .
  name: (identifier) @name
  (function_body) @body) @method

(function_declaration
  [
    (user_type
      .
      (identifier) @receiver)
    (nullable_type
      (user_type
        .
        (identifier) @receiver))
  ]
  .
  name: (identifier) @name
  (function_body) @body) @method

(function_declaration
  name: (identifier) @name
  (function_body) @body) @function

(secondary_constructor
  (block) @body
  (#set! name "constructor")) @method

(property_declaration
  [
    (user_type
      (identifier)
      .
      (identifier) @receiver)
    (nullable_type
      (user_type
        (identifier)
        .
        (identifier) @receiver))
  ]
  .
  (variable_declaration
    .
    (identifier) @name)
  (getter
    (function_body) @body)) @method

(property_declaration
  [
    (user_type
      (identifier) @receiver)
    (nullable_type
      (user_type
        (identifier) @receiver))
  ]
  .
  (variable_declaration
    .
    (identifier) @name)
  (getter
    (function_body) @body)) @method

(property_declaration
  (variable_declaration
    .
    (identifier) @name)
  (getter
    (function_body) @body)) @function

(block) @block

(when_expression) @block
