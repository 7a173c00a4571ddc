(comment) @comment

(decorator) @attribute

(decorated_definition
  definition: (_) @wrapped) @wrapper

(function_definition
  name: (identifier) @name
  body: (block) @body) @function

(class_definition
  name: (identifier) @name
  body: (block) @body) @class

(function_definition
  body: (block
    .
    (expression_statement
      .
      (string) @docstring)))

(class_definition
  body: (block
    .
    (expression_statement
      .
      (string) @docstring)))

(block) @block
