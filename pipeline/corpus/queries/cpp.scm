; inherits: c

; : a(1), b(2) before a constructor's body
(field_initializer_list) @attribute

(template_declaration
  (_) @wrapped
  .) @wrapper

(class_specifier
  name: (_) @name
  body: (_) @body) @class

(namespace_definition
  name: (_) @name) @scope

(namespace_definition) @scope

; Inside a class
(function_definition
  declarator: [
    (function_declarator
      declarator: [
        (field_identifier)
        (destructor_name)
        (operator_name)
      ] @name)
    (pointer_declarator
      declarator: (function_declarator
        declarator: [
          (field_identifier)
          (operator_name)
        ] @name))
    (reference_declarator
      (function_declarator
        declarator: [
          (field_identifier)
          (operator_name)
        ] @name))
  ]
  body: (compound_statement) @body) @function

(function_definition
  declarator: (reference_declarator
    (function_declarator
      declarator: (identifier) @name))
  body: (compound_statement) @body) @function

; Outside its class: A::b
(function_definition
  declarator: [
    (function_declarator
      declarator: (qualified_identifier) @name)
    (pointer_declarator
      declarator: (function_declarator
        declarator: (qualified_identifier) @name))
    (pointer_declarator
      declarator: (pointer_declarator
        declarator: (function_declarator
          declarator: (qualified_identifier) @name)))
    (reference_declarator
      (function_declarator
        declarator: (qualified_identifier) @name))
  ]
  body: (compound_statement) @body) @method

; A specialisation: name<Foo>
(function_definition
  declarator: [
    (function_declarator
      declarator: (template_function
        name: (identifier) @name))
    (pointer_declarator
      declarator: (function_declarator
        declarator: (template_function
          name: (identifier) @name)))
    (reference_declarator
      (function_declarator
        declarator: (template_function
          name: (identifier) @name)))
  ]
  body: (compound_statement) @body) @function

(function_definition
  declarator: (qualified_identifier
    scope: (_) @receiver
    name: (operator_cast))
  body: (compound_statement) @body
  (#set! name "operator")) @method

(function_definition
  declarator: (operator_cast)
  body: (compound_statement) @body
  (#set! name "operator")) @function
