;; A guest with `run-many`, written by hand: it counts its calls, fails in many ways, and breaks the rules in some.
;; What it does with a record, its first byte says.
(component
  (import "wpool:task/batch@0.1.0"
    (instance $batch (export "report" (func (param "outcome" (result (list u8) (error string))) (result bool)))))

  (core module $guest
    (import "batch" "report" (func $report (param i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 65536))
    (global $count (mut i32) (i32.const 0))

    (func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
      (local $start i32)
      (local.set $start (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $start) (local.get $len)))
      (local.get $start))

    (func $overflow (param i32) (result i32)
      (i32.add (call $overflow (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))

    ;; The outcome is at 16: the case, the address, the length.
    (func $run (param $record i32) (param $len i32)
      (local $what i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (if (local.get $len) (then (local.set $what (i32.load8_u (local.get $record)))))
      (i32.store (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (local.get $record))
      (i32.store (i32.const 24) (local.get $len))
      ;; '!' traps, '?' is an error, 'u' one that is not UTF-8.
      (if (i32.eq (local.get $what) (i32.const 33)) (then (unreachable)))
      (if (i32.eq (local.get $what) (i32.const 63)) (then (i32.store (i32.const 16) (i32.const 1))))
      (if (i32.eq (local.get $what) (i32.const 117))
        (then (i32.store (i32.const 16) (i32.const 1)) (i32.store8 (local.get $record) (i32.const 255))))
      ;; 'n' gives the number of the call.
      (if (i32.eq (local.get $what) (i32.const 110))
        (then
          (i32.store8 (i32.const 32) (i32.add (i32.const 48) (i32.div_u (global.get $count) (i32.const 100))))
          (i32.store8 (i32.const 33) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (global.get $count) (i32.const 10)) (i32.const 10))))
          (i32.store8 (i32.const 34) (i32.add (i32.const 48) (i32.rem_u (global.get $count) (i32.const 10))))
          (i32.store (i32.const 20) (i32.const 32))
          (i32.store (i32.const 24) (i32.const 3))))
      ;; 'x' gives a result of 1000 bytes, 'w' one outside the memory.
      (if (i32.eq (local.get $what) (i32.const 120)) (then (i32.store (i32.const 24) (i32.const 1000))))
      (if (i32.eq (local.get $what) (i32.const 119)) (then (i32.store (i32.const 20) (i32.const -16))))
      ;; 'm' wants more memory than there is, 's' more stack, 'l' more time; 'p' reports where it may not.
      (if (i32.eq (local.get $what) (i32.const 109))
        (then (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (unreachable)))))
      (if (i32.eq (local.get $what) (i32.const 115)) (then (drop (call $overflow (i32.const 0)))))
      (if (i32.eq (local.get $what) (i32.const 108)) (then (loop $for_ever (br $for_ever)))))

    (func (export "run") (param $record i32) (param $len i32) (result i32)
      (call $run (local.get $record) (local.get $len))
      (if (local.get $len)
        (then
          (if (i32.eq (i32.load8_u (local.get $record)) (i32.const 112))
            (then (drop (call $report (i32.const 0) (i32.const 0) (i32.const 0)))))))
      (i32.const 16))

    (func (export "run-many") (param $records i32) (param $count i32)
      (local $end i32) (local $what i32) (local $goes_on i32)
      (local.set $end (i32.add (local.get $records) (i32.shl (local.get $count) (i32.const 3))))
      (block $done
        (loop $next
          (br_if $done (i32.ge_u (local.get $records) (local.get $end)))
          (local.set $what (i32.const 0))
          (if (i32.load offset=4 (local.get $records))
            (then (local.set $what (i32.load8_u (i32.load (local.get $records))))))
          ;; 'e' returns before its time.
          (br_if $done (i32.eq (local.get $what) (i32.const 101)))
          (call $run (i32.load (local.get $records)) (i32.load offset=4 (local.get $records)))
          (local.set $goes_on
            (call $report (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.load (i32.const 24))))
          ;; 'r' reports until the host has had enough of it.
          (if (i32.eq (local.get $what) (i32.const 114))
            (then (loop $again (drop (call $report (i32.const 0) (i32.const 32) (i32.const 0))) (br $again))))
          (br_if $done (i32.eqz (local.get $goes_on)))
          (local.set $records (i32.add (local.get $records) (i32.const 8)))
          (br $next))))

    (func (export "post_run") (param i32) (global.set $free (i32.const 65536)))
    (func (export "post_run_many") (global.set $free (i32.const 65536))))

  ;; `report` reads the guest's memory, so that it can be had only after the guest: until then, a table stands in for it.
  (core module $early
    (table (export "table") 1 1 funcref)
    (func (export "report") (param i32 i32 i32) (result i32)
      (call_indirect (param i32 i32 i32) (result i32)
        (local.get 0) (local.get 1) (local.get 2) (i32.const 0))))
  (core module $late
    (import "late" "report" (func $report (param i32 i32 i32) (result i32)))
    (import "late" "table" (table 1 1 funcref))
    (elem (i32.const 0) func $report))

  (core instance $early (instantiate $early))
  (core instance $instance (instantiate $guest
    (with "batch" (instance (export "report" (func $early "report"))))))
  (core func $report (canon lower (func $batch "report") (memory (core memory $instance "memory"))))
  (core instance (instantiate $late
    (with "late" (instance (export "report" (func $report)) (export "table" (table $early "table"))))))

  (func (export "run") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift
      (core func $instance "run")
      (memory (core memory $instance "memory"))
      (realloc (core func $instance "cabi_realloc"))
      (post-return (core func $instance "post_run"))))
  (func (export "run-many") (param "inputs" (list (list u8)))
    (canon lift
      (core func $instance "run-many")
      (memory (core memory $instance "memory"))
      (realloc (core func $instance "cabi_realloc"))
      (post-return (core func $instance "post_run_many")))))
