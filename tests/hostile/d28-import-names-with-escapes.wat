;; EXPECT reject-link: imports whose names hold escape sequences and newlines
(module
(import "\1b[2J\1b]0;pwned\07" "a\0awpool: all tasks ok\0d" (func))
(import "wasi_snapshot_preview1\0a" "\c2\9b31m" (func))
(func (export "run") (param i32) (result i32) (i32.const 1)))
