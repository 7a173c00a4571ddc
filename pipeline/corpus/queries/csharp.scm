(comment) @comment

(attribute_list) @attribute

(namespace_declaration
  name: (_) @name) @scope

(file_scoped_namespace_declaration
  name: (_) @name) @scope.rest

(class_declaration
  name: (identifier) @name
  body: (declaration_list) @body) @class

(struct_declaration
  name: (identifier) @name
  body: (declaration_list) @body) @class

(interface_declaration
  name: (identifier) @name
  body: (declaration_list) @body) @class

(record_declaration
  name: (identifier) @name
  body: (declaration_list) @body) @class

(record_declaration
  name: (identifier) @name) @class

(enum_declaration
  name: (identifier) @name
  body: (enum_member_declaration_list) @body) @class

(method_declaration
  name: (identifier) @name
  body: (_) @body) @method

(constructor_declaration
  name: (identifier) @name
  body: (_) @body) @method

(destructor_declaration
  body: (_) @body
  (#set! name "Finalize")) @method

(operator_declaration
  operator: _ @name
  body: (_) @body) @method

(indexer_declaration
  accessors: (accessor_list) @body
  (#set! name "this[]")) @method

(property_declaration
  name: (identifier) @name
  accessors: (accessor_list
    (accessor_declaration
      body: (_))) @body) @method

(property_declaration
  name: (identifier) @name
  value: (arrow_expression_clause) @body) @method

(local_function_statement
  name: (identifier) @name
  body: (_) @body) @function

(block) @block

(switch_body) @block

(switch_section) @block
