;; EXPECT trap: drops a handle that it never had, and one twice
(component
(type $r (resource (rep i32)))
(core func $new (canon resource.new $r))
(core func $drop (canon resource.drop $r))
(core module $m (import "h" "new" (func $new (param i32) (result i32))) (import "h" "drop" (func $drop (param i32))) (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "run") (param i32 i32) (result i32) (local $h i32)
    (local.set $h (call $new (i32.const 7))) (call $drop (local.get $h)) (call $drop (local.get $h)) (call $drop (i32.const 99)) (i32.const 16)))
(core instance $i (instantiate $m (with "h" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
(func $run (param "input" (list u8)) (result (result (list u8) (error string))) (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(export "run" (func $run)))
