;; EXPECT trap/err: cabi_realloc gives pointers inside memory, the result lies in them and reaches past its end
(module
(memory (export "memory") 2)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 131064))
(func (export "run") (param $p i32) (param $n i32) (result i32) (i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 131064)) (i32.store (i32.const 24) (i32.const 9)) (i32.const 16)))
