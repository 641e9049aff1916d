;; EXPECT limit, trap or timeout: makes handles of its own without end
(component
(type $r (resource (rep i32)))
(core func $new (canon resource.new $r))
(core module $m (import "h" "new" (func $new (param i32) (result i32))) (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "run") (param i32 i32) (result i32) (loop $l (drop (call $new (i32.const 7))) (br $l)) unreachable))
(core instance $i (instantiate $m (with "h" (instance (export "new" (func $new))))))
(func $run (param "input" (list u8)) (result (result (list u8) (error string))) (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(export "run" (func $run)))
