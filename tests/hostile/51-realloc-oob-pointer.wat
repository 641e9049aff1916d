;; EXPECT trap/err: cabi_realloc gives a pointer behind the end of memory for the input
(module
(memory (export "memory") 2)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const -4096))
(func (export "run") (param $p i32) (param $n i32) (result i32) (i32.const 16)))
