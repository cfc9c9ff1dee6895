#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and nothing that is there:
# a C compiler for the WebGPU binding, the Vulkan loader, Mesa's software
# driver so that everything runs without a GPU, and OpenBLAS, which makes the
# CPU executor several times faster. Elsewhere it says what to install by hand.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin" # ldconfig is not on everyone's path

missing=()
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || missing+=(libvulkan1)
compgen -G '/usr/share/vulkan/icd.d/*lvp*' >/dev/null || missing+=(mesa-vulkan-drivers)
echo 'int main(void){return 0;}' | gcc -x c - -lopenblas -o /dev/null 2>/dev/null || missing+=(libopenblas-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
	echo "setup: please install the equivalents of: ${missing[*]}" >&2
	exit 0
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "setup: run as root: apt-get install ${missing[*]}" >&2
		exit 0
	fi
	root=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
