;; EXPECT reject-type: exports of a core module whose names hold escape sequences, newlines, and turns of direction
(module
(func (export "\1b[2J\1b]0;pwned\07") (result i32) (i32.const 1))
(func (export "a\0awpool: all tasks ok\0d") (result i32) (i32.const 2))
(func (export "\e2\80\aenur") (result i32) (i32.const 3)))
