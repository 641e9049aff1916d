;; EXPECT trap: calls the host from cabi_realloc while the host is in the midst of a call
(component
(import "wasi:random/random@0.2.0" (instance $rnd (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
(alias export $rnd "get-random-bytes" (func $grb))
(core module $shim (table (export "t") 1 funcref) (type $s (func (param i64 i32))) (memory (export "memory") 2)
  (func $grb (param i64 i32) (call_indirect (type $s) (local.get 0) (local.get 1) (i32.const 0)))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (call $grb (i64.const 8) (i32.const 64)) (i32.const 4096))
  (func (export "run") (param i32 i32) (result i32) (call $grb (i64.const 8) (i32.const 64)) (i32.const 16)))
(core instance $i (instantiate $shim))
(core func $low (canon lower (func $grb) (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(core module $fill (import "t" "t" (table 1 funcref)) (import "t" "f" (func $f (param i64 i32))) (elem (i32.const 0) func $f))
(core instance (instantiate $fill (with "t" (instance (export "t" (table $i "t")) (export "f" (func $low))))))
(func $run (param "input" (list u8)) (result (result (list u8) (error string))) (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(export "run" (func $run)))
