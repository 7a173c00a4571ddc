(line_comment) @comment

(block_comment) @comment

(marker_annotation) @attribute

(annotation) @attribute

(class_declaration
  name: (identifier) @name
  body: (class_body) @body) @class

(interface_declaration
  name: (identifier) @name
  body: (interface_body) @body) @class

(enum_declaration
  name: (identifier) @name
  body: (enum_body) @body) @class

(record_declaration
  name: (identifier) @name
  body: (class_body) @body) @class

(annotation_type_declaration
  name: (identifier) @name
  body: (annotation_type_body) @body) @class

(method_declaration
  name: (identifier) @name
  body: (block) @body) @method

(constructor_declaration
  name: (identifier) @name
  body: (constructor_body) @body) @method

(compact_constructor_declaration
  name: (identifier) @name
  body: (block) @body) @method

(block) @block

(constructor_body) @block

(switch_block) @block

(switch_block_statement_group) @block
