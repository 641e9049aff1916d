;; EXPECT trap: calls the host in its start function with nonsense
(component
(import "wasi:cli/exit@0.2.0" (instance $ex (export "exit" (func (param "status" (result))))))
(alias export $ex "exit" (func $exit))
(core func $l0 (canon lower (func $exit)))
(core module $m (import "w" "exit" (func $exit (param i32))) (memory (export "memory") 1)
  (func $s (call $exit (i32.const 77))) (start $s)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "run") (param i32 i32) (result i32) (i32.const 16)))
(core instance $i (instantiate $m (with "w" (instance (export "exit" (func $l0))))))
(func $run (param "input" (list u8)) (result (result (list u8) (error string))) (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(export "run" (func $run)))
