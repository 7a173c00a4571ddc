(comment) @comment

(module
  name: (_) @name
  body: (body_statement) @body) @class

(class
  name: (_) @name
  body: (body_statement) @body) @class

(class
  name: (_) @name) @class

(singleton_class) @scope.type

; Point = Struct.new(:x, :y) do … end
((assignment
  left: (constant) @name
  right: (call
    method: (identifier) @_new
    block: (_
      body: (_) @body))) @class
  (#any-of? @_new "new" "define"))

(method
  name: (_) @name
  body: (_) @body) @function

(method
  name: (_) @name) @function

(singleton_method
  name: (_) @name
  body: (_) @body) @method

(singleton_method
  name: (_) @name) @method

(body_statement) @block

(block_body) @block

(then) @block

(else) @clause @block

(rescue) @clause @block

(do) @block

(ensure) @clause @block

(case) @block
