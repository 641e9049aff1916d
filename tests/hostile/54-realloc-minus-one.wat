;; EXPECT trap/err: cabi_realloc gives -1, as an allocator that has nothing left might
(module
(memory (export "memory") 2)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const -1))
(func (export "run") (param $p i32) (param $n i32) (result i32) (i32.const 16)))
