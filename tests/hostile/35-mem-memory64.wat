;; EXPECT limit or reject-compile: a 64-bit memory of 2^40 bytes from the start
(module
(memory (export "memory") 2)
(memory $big i64 16777216)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
(func (export "run") (param $p i32) (param $n i32) (result i32) (i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (local.get $p)) (i32.store (i32.const 24) (local.get $n)) (i32.const 16)))
