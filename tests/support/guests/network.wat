;; Asks for the network it has: every language that brings the imports of sockets along does that much or less.
(component
(import "wasi:sockets/network@0.2.0" (instance $nw (export "network" (type (sub resource)))))
(alias export $nw "network" (type $net))
(import "wasi:sockets/instance-network@0.2.0" (instance $inw (alias outer 1 $net (type $n0)) (export "network" (type $n (eq $n0))) (export "instance-network" (func (result (own $n))))))
(alias export $inw "instance-network" (func $gn))
(core module $libcm (memory (export "memory") 2) (global $hp (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $p i32)
    (local.set $p (i32.and (i32.add (global.get $hp) (i32.const 15)) (i32.const -16)))
    (global.set $hp (i32.add (local.get $p) (local.get 3)))
    (if (i32.gt_u (i32.add (i32.shr_u (global.get $hp) (i32.const 16)) (i32.const 1)) (memory.size)) (then
      (if (i32.eq (memory.grow (i32.sub (i32.add (i32.shr_u (global.get $hp) (i32.const 16)) (i32.const 1)) (memory.size))) (i32.const -1)) (then unreachable))))
    (local.get $p)))
(core instance $libc (instantiate $libcm))
(core func $l0 (canon lower (func $gn) (memory $libc "memory") (realloc (func $libc "cabi_realloc"))))
(core module $m
  (import "libc" "memory" (memory 2)) (import "libc" "cabi_realloc" (func $alloc (param i32 i32 i32 i32) (result i32)))
  (import "w" "f0" (func $f0 (result i32)))
  (func $ret (param $t i32) (param $p i32) (param $n i32) (result i32)
    (i32.store8 (i32.const 16) (local.get $t)) (i32.store (i32.const 20) (local.get $p)) (i32.store (i32.const 24) (local.get $n)) (i32.const 16))
  (func $u32 (param i32) (result i32) (i32.store (i32.const 32) (local.get 0)) (call $ret (i32.const 0) (i32.const 32) (i32.const 4)))
  (func (export "run") (param $p i32) (param $n i32) (result i32) (local $h i32) (local $i i32)
    (call $u32 (call $f0))))
(core instance $i (instantiate $m (with "libc" (instance $libc)) (with "w" (instance (export "f0" (func $l0))))))

(func $run (param "input" (list u8)) (result (result (list u8) (error string)))
  (canon lift (core func $i "run") (memory $libc "memory") (realloc (func $libc "cabi_realloc"))))
(export "run" (func $run)))
