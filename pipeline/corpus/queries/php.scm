(comment) @comment

(attribute_list) @attribute

(expression_statement
  (assignment_expression
    right: [
      (anonymous_function)
      (arrow_function)
    ]) @wrapped) @wrapper

(namespace_definition
  name: (_) @name
  body: (_)) @scope

(namespace_definition
  name: (_) @name) @scope.rest

(class_declaration
  name: (name) @name
  body: (declaration_list) @body) @class

(interface_declaration
  name: (name) @name
  body: (declaration_list) @body) @class

(trait_declaration
  name: (name) @name
  body: (declaration_list) @body) @class

(enum_declaration
  name: (name) @name
  body: (enum_declaration_list) @body) @class

(method_declaration
  name: (name) @name
  body: (compound_statement) @body) @method

(function_definition
  name: (name) @name
  body: (compound_statement) @body) @function

(assignment_expression
  left: (variable_name
    (name) @name)
  right: [
    (anonymous_function
      body: (_) @body)
    (arrow_function
      body: (_) @body)
  ]) @function

(compound_statement) @block

(switch_block) @block

(case_statement) @block
