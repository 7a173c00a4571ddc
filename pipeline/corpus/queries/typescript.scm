; inherits: ecma

(expression_statement
  (internal_module) @wrapped) @wrapper

(ambient_declaration
  (_) @wrapped) @wrapper

(abstract_class_declaration
  name: (_) @name
  body: (class_body) @body) @class

(interface_declaration
  name: (_) @name
  body: (_) @body) @class

(enum_declaration
  name: (_) @name
  body: (enum_body) @body) @class

(type_alias_declaration
  name: (_) @name
  value: (object_type) @body) @class

(type_alias_declaration
  name: (_) @name) @class

; An overload, or a function that exists elsewhere
(function_signature
  name: (identifier) @name) @function

(public_field_definition
  name: (_) @name
  value: [
    (arrow_function
      body: (_) @body)
    (function_expression
      body: (_) @body)
  ]) @method

(internal_module
  name: (_) @name) @scope

(module
  name: (_) @name) @scope
