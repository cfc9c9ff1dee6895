#include "textflag.h"

// Cephes' expf: e^v = 2^k e^r with k = round(v/ln2), ln2 in two parts, and a
// polynomial in r.

DATA consts<>+0(SB)/4, $87.336
DATA consts<>+4(SB)/4, $-87.336
DATA consts<>+8(SB)/4, $1.44269504
DATA consts<>+12(SB)/4, $0.693359375
DATA consts<>+16(SB)/4, $-2.12194440e-4
DATA consts<>+20(SB)/4, $1.9875691500e-4
DATA consts<>+24(SB)/4, $1.3981999507e-3
DATA consts<>+28(SB)/4, $8.3334519073e-3
DATA consts<>+32(SB)/4, $4.1665795894e-2
DATA consts<>+36(SB)/4, $1.6666665459e-1
DATA consts<>+40(SB)/4, $5.0000001201e-1
DATA consts<>+44(SB)/4, $1.0
DATA consts<>+48(SB)/4, $127
GLOBL consts<>(SB), RODATA|NOPTR, $52

// func expsAVX2(y, x *float32, n int, scale, shift float32) (total float32)
TEXT ·expsAVX2(SB), NOSPLIT, $0-36
	MOVQ y+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS scale+24(FP), Y14
	VBROADCASTSS shift+28(FP), Y15
	VBROADCASTSS consts<>+0(SB), Y13
	VBROADCASTSS consts<>+4(SB), Y12
	VBROADCASTSS consts<>+8(SB), Y11
	VBROADCASTSS consts<>+12(SB), Y10
	VBROADCASTSS consts<>+16(SB), Y9
	VBROADCASTSS consts<>+44(SB), Y8
	VXORPS Y7, Y7, Y7 // the sum

loop:
	// v = scale*x + shift, at most 87.336. A NaN stays one.
	VMOVUPS (SI), Y0
	VFMADD213PS Y15, Y14, Y0
	VMINPS Y0, Y13, Y0
	VCMPPS $5, Y12, Y0, Y6 // where v is not below -87.336

	VMULPS Y11, Y0, Y1
	VROUNDPS $0, Y1, Y1 // k
	VFNMADD231PS Y10, Y1, Y0
	VFNMADD231PS Y9, Y1, Y0 // r

	VBROADCASTSS consts<>+20(SB), Y2
	VBROADCASTSS consts<>+24(SB), Y3
	VFMADD213PS Y3, Y0, Y2
	VBROADCASTSS consts<>+28(SB), Y3
	VFMADD213PS Y3, Y0, Y2
	VBROADCASTSS consts<>+32(SB), Y3
	VFMADD213PS Y3, Y0, Y2
	VBROADCASTSS consts<>+36(SB), Y3
	VFMADD213PS Y3, Y0, Y2
	VBROADCASTSS consts<>+40(SB), Y3
	VFMADD213PS Y3, Y0, Y2
	VMULPS Y0, Y0, Y3
	VFMADD213PS Y0, Y3, Y2
	VADDPS Y8, Y2, Y2 // e^r

	VCVTPS2DQ Y1, Y1
	VPBROADCASTD consts<>+48(SB), Y3
	VPADDD Y3, Y1, Y1
	VPSLLD $23, Y1, Y1
	VMULPS Y1, Y2, Y2
	VANDPS Y6, Y2, Y2

	VMOVUPS Y2, (DI)
	VADDPS Y2, Y7, Y7
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JNZ loop

	VEXTRACTF128 $1, Y7, X0
	VADDPS X0, X7, X0
	VHADDPS X0, X0, X0
	VHADDPS X0, X0, X0
	VMOVSS X0, total+32(FP)
	VZEROUPPER
	RET
