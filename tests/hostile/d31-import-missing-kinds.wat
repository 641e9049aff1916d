;; EXPECT reject-link: components import functions and types directly, and interfaces that nobody has
(component
(import "fork" (func (result u32)))
(import "acme:root/shell@9.9.9" (instance (export "exec" (func (param "command" string)))))
(import "wasi:filesystem/types@0.3.0" (instance))
(core module $m (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "run") (param i32 i32) (result i32) (i32.const 16)))
(core instance $i (instantiate $m))
(func $run (param "input" (list u8)) (result (result (list u8) (error string))) (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(export "run" (func $run)))
