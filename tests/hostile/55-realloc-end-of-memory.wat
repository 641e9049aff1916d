;; EXPECT trap/err: cabi_realloc gives the last byte of memory for an input that is longer
(module
(memory (export "memory") 2)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 131071))
(func (export "run") (param $p i32) (param $n i32) (result i32) (i32.const 16)))
