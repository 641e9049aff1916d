;; EXPECT reject-type or trap/err: gives away a handle of its own: nothing that can leave
(component
(type $r (resource (rep i32)))
(export $re "r" (type $r))
(core func $new (canon resource.new $r))
(core module $m (import "h" "new" (func $new (param i32) (result i32))) (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "run") (param i32 i32) (result i32) (call $new (i32.const 7))))
(core instance $i (instantiate $m (with "h" (instance (export "new" (func $new))))))
(func $run (param "input" (list u8)) (result (own $re)) (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(export "run" (func $run)))
