;; EXPECT reject-compile, reject-type or trap: run is lifted as asynchronous
(component
(core module $m (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "run") (param i32 i32) (result i32) (i32.const 0))
  (func (export "callback") (param i32 i32 i32) (result i32) (i32.const 0)))
(core instance $i (instantiate $m))
(func $run async (param "input" (list u8)) (result (result (list u8) (error string)))
  (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc")) async (callback (func $i "callback"))))
(export "run" (func $run)))
