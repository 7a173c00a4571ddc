(comment) @comment

(type_declaration
  "type"
  .
  (type_spec) @wrapped
  .) @wrapper

(function_declaration
  name: (identifier) @name
  body: (block) @body) @function

(method_declaration
  receiver: (parameter_list
    (parameter_declaration
      type: [
        (type_identifier) @receiver
        (generic_type
          type: (type_identifier) @receiver)
        (pointer_type
          (type_identifier) @receiver)
        (pointer_type
          (generic_type
            type: (type_identifier) @receiver))
      ]))
  name: (field_identifier) @name
  body: (block) @body) @method

(type_spec
  name: (type_identifier) @name
  type: (struct_type
    (field_declaration_list) @body)) @class

(type_spec
  name: (type_identifier) @name
  type: (interface_type
    "{" @open) @body) @class

(type_spec
  name: (type_identifier) @name) @class

(statement_list) @block

(expression_switch_statement) @block

(type_switch_statement) @block

(select_statement) @block
