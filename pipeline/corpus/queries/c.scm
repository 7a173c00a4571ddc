(comment) @comment

(type_definition
  type: (_) @wrapped) @wrapper

(function_definition
  declarator: (function_declarator
    declarator: (identifier) @name)
  body: (compound_statement) @body) @function

(function_definition
  declarator: (pointer_declarator
    declarator: (function_declarator
      declarator: (identifier) @name))
  body: (compound_statement) @body) @function

(function_definition
  declarator: (pointer_declarator
    declarator: (pointer_declarator
      declarator: (function_declarator
        declarator: (identifier) @name)))
  body: (compound_statement) @body) @function

; A function that gives a pointer to a function
(function_definition
  declarator: (function_declarator
    declarator: (parenthesized_declarator
      (pointer_declarator
        declarator: (function_declarator
          declarator: (identifier) @name))))
  body: (compound_statement) @body) @function

(struct_specifier
  name: (_) @name
  body: (_) @body) @class

(union_specifier
  name: (_) @name
  body: (_) @body) @class

(enum_specifier
  name: (_) @name
  body: (_) @body) @class

; Without a name of its own, the typedef's is its name.
(type_definition
  type: [
    (struct_specifier
      !name
      body: (_) @body)
    (union_specifier
      !name
      body: (_) @body)
    (enum_specifier
      !name
      body: (_) @body)
  ]
  declarator: (type_identifier) @name) @class

(compound_statement) @block

(case_statement) @block

(preproc_ifdef) @block

(preproc_if) @block

(preproc_else) @block
