; What JavaScript and TypeScript share.

(comment) @comment

(decorator) @attribute

(export_statement
  declaration: (_) @wrapped) @wrapper

(export_statement
  value: (_) @wrapped) @wrapper

; Only around what may be a definition: most declarations and assignments are none.

(lexical_declaration
  .
  (variable_declarator
    value: [
      (arrow_function)
      (function_expression)
      (generator_function)
      (call_expression)
      (class)
    ]) @wrapped
  .) @wrapper

(variable_declaration
  .
  (variable_declarator
    value: [
      (arrow_function)
      (function_expression)
      (generator_function)
      (call_expression)
      (class)
    ]) @wrapped
  .) @wrapper

(expression_statement
  (assignment_expression
    right: [
      (arrow_function)
      (function_expression)
      (generator_function)
      (class)
    ]) @wrapped) @wrapper

; Declarations

(function_declaration
  name: (identifier) @name
  body: (statement_block) @body) @function

(generator_function_declaration
  name: (identifier) @name
  body: (statement_block) @body) @function

(class_declaration
  name: (_) @name
  body: (class_body) @body) @class

(method_definition
  name: (_) @name
  body: (statement_block) @body) @method

; export default without a name

(export_statement
  value: [
    (function_expression
      body: (_) @body)
    (generator_function
      body: (_) @body)
    (arrow_function
      body: (_) @body)
  ] @function
  (#set! name "default"))

(export_statement
  value: (class
    body: (class_body) @body) @class
  (#set! name "default"))

; Functions and classes given to a name

(variable_declarator
  name: (identifier) @name
  value: [
    (arrow_function
      body: (_) @body)
    (function_expression
      body: (_) @body)
    (generator_function
      body: (_) @body)
  ]) @function

((variable_declarator
  name: (identifier) @name
  value: (call_expression
    function: (_) @_wrapper
    arguments: (arguments
      .
      [
        (arrow_function
          body: (_) @body)
        (function_expression
          body: (_) @body)
      ]))) @function
  (#match? @_wrapper "(^|\\.)(memo|forwardRef|observer)$"))

; asyncHandler(async (req, res) => {…}), createAsyncThunk("name", async () => {…})
(variable_declarator
  name: (identifier) @name
  value: (call_expression
    arguments: (arguments
      [
        (arrow_function
          body: (statement_block) @body)
        (function_expression
          body: (_) @body)
      ]))) @function

(variable_declarator
  name: (identifier) @name
  value: (class
    body: (class_body) @body)) @class

((assignment_expression
  left: (member_expression
    object: (_) @_object
    property: (property_identifier) @name)
  right: [
    (arrow_function
      body: (_) @body)
    (function_expression
      body: (_) @body)
    (generator_function
      body: (_) @body)
  ]) @function
  (#any-of? @_object "exports" "module.exports"))

((assignment_expression
  left: (member_expression
    object: (member_expression
      object: (_) @receiver
      property: (property_identifier) @_prototype)
    property: (property_identifier) @name)
  right: [
    (arrow_function
      body: (_) @body)
    (function_expression
      body: (_) @body)
    (generator_function
      body: (_) @body)
  ]) @method
  (#eq? @_prototype "prototype"))

(assignment_expression
  left: (member_expression
    object: (this)
    property: (_) @name)
  right: [
    (arrow_function
      body: (_) @body)
    (function_expression
      body: (_) @body)
  ]) @method

(assignment_expression
  left: [
    (identifier)
    (member_expression)
  ] @name
  right: [
    (arrow_function
      body: (_) @body)
    (function_expression
      body: (_) @body)
    (generator_function
      body: (_) @body)
  ]) @function

(assignment_expression
  left: [
    (identifier)
    (member_expression)
  ] @name
  right: (class
    body: (class_body) @body)) @class

(pair
  key: (_) @name
  value: [
    (arrow_function
      body: (_) @body)
    (function_expression
      body: (_) @body)
    (generator_function
      body: (_) @body)
  ]) @method

; Objects that hold such functions

(variable_declarator
  name: (identifier) @name
  value: (object)) @scope

(pair
  key: (_) @name
  value: (object)) @scope

((assignment_expression
  left: (_) @_left
  right: (object)) @scope
  (#any-of? @_left "exports" "module.exports"))

(assignment_expression
  left: (_) @name
  right: (object)) @scope

(statement_block) @block

(switch_body) @block

(switch_case) @block

(switch_default) @block
