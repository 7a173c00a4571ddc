(comment) @comment

(function_definition
  name: (word) @name
  body: (_) @body) @function

(compound_statement) @block

(subshell) @block

(do_group) @block

(if_statement) @block

(elif_clause) @clause @block

(else_clause) @clause @block

(case_statement) @block

(case_item) @block
