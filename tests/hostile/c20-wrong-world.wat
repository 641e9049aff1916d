;; EXPECT reject-type: exports handle and close in an interface, with a string and a number, and no run; the message names what there is
(component
(core module $m
(memory (export "memory") 2)
(global $hp (mut i32) (i32.const 4096))
(func $alloc (export "cabi_realloc") (param $old i32) (param $osz i32) (param $al i32) (param $new i32) (result i32) (local $p i32) (local $need i32)
  (local.set $p (i32.and (i32.add (global.get $hp) (i32.sub (local.get $al) (i32.const 1))) (i32.sub (i32.const 0) (local.get $al))))
  (global.set $hp (i32.add (local.get $p) (local.get $new)))
  (local.set $need (i32.add (i32.shr_u (global.get $hp) (i32.const 16)) (i32.const 1)))
  (if (i32.gt_u (local.get $need) (memory.size)) (then
    (if (i32.eq (memory.grow (i32.sub (local.get $need) (memory.size))) (i32.const -1)) (then unreachable))))
  (local.get $p))
(func $ret (param $t i32) (param $p i32) (param $n i32) (result i32)
  (i32.store8 (i32.const 16) (local.get $t)) (i32.store (i32.const 20) (local.get $p)) (i32.store (i32.const 24) (local.get $n)) (i32.const 16))
(func $ok (param $p i32) (param $n i32) (result i32) (call $ret (i32.const 0) (local.get $p) (local.get $n)))
(func $err (param $p i32) (param $n i32) (result i32) (call $ret (i32.const 1) (local.get $p) (local.get $n)))
(func (export "handle") (param $p i32) (param $n i32) (result i32) (call $ok (local.get $p) (local.get $n))))
(core instance $i (instantiate $m))
(core module $n (func (export "handle") (param i32 i32 i32) (result i32) (i32.const 0)))
(core instance $j (instantiate $n))
(func $handle (param "request" string) (param "times" u32) (result u32) (canon lift (core func $j "handle") (memory $i "memory") (realloc (func $i "cabi_realloc"))))
(instance $t (export "handle" (func $handle)) (export "close" (func $handle)))
(export "acme:web/handler@1.0.0" (instance $t)))
