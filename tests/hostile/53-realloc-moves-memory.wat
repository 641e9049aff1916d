;; EXPECT ok (echo): every cabi_realloc grows memory, which may move it under the host's feet; the data is where it gave it
(module
(memory (export "memory") 2)
(global $hp (mut i32) (i32.const 0))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) 
  (if (i32.eq (global.get $hp) (i32.const 0)) (then (global.set $hp (i32.const 131072))))
  (drop (memory.grow (i32.const 16)))
  (global.set $hp (i32.add (global.get $hp) (local.get 3)))
  (i32.sub (global.get $hp) (local.get 3)))
(func (export "run") (param $p i32) (param $n i32) (result i32) (i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (local.get $p)) (i32.store (i32.const 24) (local.get $n)) (i32.const 16)))
