(comment) @comment

(variable_declaration
  (assignment_statement) @wrapped) @wrapper

(function_declaration
  name: (method_index_expression
    table: (_) @receiver
    method: (_) @name)
  body: (block) @body) @method

(function_declaration
  name: (method_index_expression
    table: (_) @receiver
    method: (_) @name)) @method

(function_declaration
  name: (_) @name
  body: (block) @body) @function

(function_declaration
  name: (_) @name) @function

(assignment_statement
  (variable_list
    .
    name: (_) @name
    .)
  (expression_list
    .
    value: (function_definition
      body: (block) @body)
    .)) @function

(assignment_statement
  (variable_list
    .
    name: (_) @name
    .)
  (expression_list
    .
    value: (function_definition)
    .)) @function

(field
  name: (_) @name
  value: (function_definition
    body: (block) @body)) @method

(assignment_statement
  (variable_list
    .
    name: (_) @name
    .)
  (expression_list
    .
    value: (table_constructor)
    .)) @scope

(field
  name: (_) @name
  value: (table_constructor)) @scope

(block) @block
