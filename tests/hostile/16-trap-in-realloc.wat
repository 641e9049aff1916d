;; EXPECT trap: cabi_realloc traps while the host lowers the input
(module
(memory (export "memory") 2)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
(func (export "run") (param $p i32) (param $n i32) (result i32) (i32.const 16)))
