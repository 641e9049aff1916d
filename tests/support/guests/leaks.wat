;; gives the first byte of the record before, and keeps that of this one
(component
  (core module $m
    (memory (export "memory") 2)
    (global $last (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "init") (param i32 i32) (result i32) (i32.store8 (i32.const 64) (i32.const 0)) (i32.const 64))
    (func (export "run") (param $p i32) (param $n i32) (result i32)
      ;; gives the byte of the task before, keeps the first byte of this one
      (i32.store8 (i32.const 100) (global.get $last))
      (global.set $last (i32.load8_u (local.get $p)))
      (i32.store (i32.const 80) (i32.const 100)) (i32.store (i32.const 84) (i32.const 1))
      (i32.const 80)))
  (core instance $i (instantiate $m))
  (type $res (result (error string)))
  (func (export "init") (param "args" (list string)) (result (result (error string))) (canon lift (core func $i "init") (memory $i "memory") (realloc (func $i "realloc"))))
  (func (export "run") (param "input" (list u8)) (result (list u8)) (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "realloc"))))
)
