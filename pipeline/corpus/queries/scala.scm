(comment) @comment

(block_comment) @comment

(annotation) @attribute

(class_definition
  name: (_) @name
  body: (_) @body) @class

(class_definition
  name: (_) @name) @class

(object_definition
  name: (_) @name
  body: (_) @body) @class

(object_definition
  name: (_) @name) @class

(package_object
  name: (_) @name
  body: (_) @body) @class

(trait_definition
  name: (_) @name
  body: (_) @body) @class

(trait_definition
  name: (_) @name) @class

(enum_definition
  name: (_) @name
  body: (_) @body) @class

(function_definition
  name: (_) @name
  body: (_) @body) @function

(extension_definition
  parameters: (parameters
    (parameter
      type: [
        (type_identifier) @name
        (generic_type
          type: (type_identifier) @name)
      ]))) @scope.type

(given_definition
  name: (_) @name) @scope.type

(given_definition) @scope.type

(block) @block

(indented_block) @block

(case_block) @block

(indented_cases) @block
