;; EXPECT ok or timeout: the destructor of its handle loops for ever
(component
(core module $d (func (export "d") (param i32) (loop $l (br $l))))
(core instance $di (instantiate $d))
(type $r (resource (rep i32) (dtor (func $di "d"))))
(core func $new (canon resource.new $r))
(core func $drop (canon resource.drop $r))
(core module $m (import "h" "new" (func $new (param i32) (result i32))) (import "h" "drop" (func $drop (param i32))) (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "run") (param i32 i32) (result i32) (call $drop (call $new (i32.const 7))) (i32.const 16)))
(core instance $i (instantiate $m (with "h" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
(func $run (param "input" (list u8)) (result (result (list u8) (error string))) (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(export "run" (func $run)))
