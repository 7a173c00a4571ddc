(line_comment) @comment

(block_comment) @comment

(attribute_item) @attribute

(function_item
  name: (identifier) @name
  body: (block) @body) @function

(struct_item
  name: (type_identifier) @name
  body: (field_declaration_list) @body) @class

(struct_item
  name: (type_identifier) @name) @class

(enum_item
  name: (type_identifier) @name
  body: (enum_variant_list) @body) @class

(union_item
  name: (type_identifier) @name
  body: (field_declaration_list) @body) @class

(trait_item
  name: (type_identifier) @name
  body: (declaration_list) @body) @class

(macro_definition
  name: (identifier) @name
  .
  [
    "{"
    "("
    "["
  ] @open) @function @body

(impl_item
  type: (type_identifier) @name) @scope.type

(impl_item
  type: (generic_type
    type: (type_identifier) @name)) @scope.type

(impl_item
  type: (scoped_type_identifier
    name: (type_identifier) @name)) @scope.type

(impl_item
  type: (_) @name) @scope.type

(mod_item
  name: (identifier) @name
  body: (declaration_list)) @scope

(block) @block

(match_block) @block
