#!/usr/bin/env bash
# Installs what is missing on Debian or Ubuntu, and nothing that is there:
# a C compiler for the WebGPU binding, the Vulkan loader, Mesa's software
# driver so that everything runs without a GPU, and OpenBLAS, which makes the
# CPU executor several times faster. `tools/setup.sh site` is about the web page
# instead: Node, which builds it; `tools/setup.sh worker` about the edge worker:
# a newer Node, which runs wrangler; `tools/setup.sh browser` about the page's
# tests: Node, Chromium and a font. Elsewhere it says what to install by hand.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="bin/node/node_modules/.bin:$PATH:/usr/sbin:/sbin" # ldconfig is not on everyone's path

# Needed is this Node or newer. Debian 12 has an older one; it is enough to fetch
# a newer one from npm's registry, as a package of bin/node.
case "${1-}" in
worker) node_least=22.12 node_for=wrangler ;;
*) node_least=20.19 node_for="the page" ;;
esac
node_package="node-linux-$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')@24.21.0"

at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
have_node() { command -v node >/dev/null && command -v npm >/dev/null && at_least "$(node --version | tr -d v)" "$node_least"; }

missing=()
programs() {
	command -v gcc >/dev/null || missing+=(gcc libc6-dev)
	ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || missing+=(libvulkan1)
	compgen -G '/usr/share/vulkan/icd.d/*lvp*' >/dev/null || missing+=(mesa-vulkan-drivers)
	echo 'int main(void){return 0;}' | gcc -x c - -lopenblas -o /dev/null 2>/dev/null || missing+=(libopenblas-dev)
}
site() {
	have_node && return
	command -v node >/dev/null || missing+=(nodejs)
	command -v npm >/dev/null || missing+=(npm)
}
worker() { site; }
browser() {
	site
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
	compgen -G '/usr/share/fonts/truetype/dejavu/*' >/dev/null || missing+=(fonts-dejavu-core)
}
case "${1-}" in
'') programs ;;
site | worker | browser) "$1" ;;
*) echo "setup: $1 is not known; say site, worker, browser or nothing" >&2 && exit 2 ;;
esac

# install asks apt for what is missing, or says that somebody else must.
install() {
	if ! command -v apt-get >/dev/null; then
		echo "setup: please install the equivalents of: ${missing[*]}" >&2
		return
	fi
	root=()
	if [ "$(id -u)" -ne 0 ]; then
		if ! command -v sudo >/dev/null; then
			echo "setup: run as root: apt-get install ${missing[*]}" >&2
			return
		fi
		root=(sudo)
	fi
	echo "setup: installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	"${root[@]}" apt-get update -qq
	"${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
[ ${#missing[@]} -eq 0 ] || install

if [ -n "${1-}" ] && ! have_node; then
	if command -v npm >/dev/null; then
		echo "setup: installing $node_package into bin/node, since $(node --version) is older than $node_least"
		npm install --silent --no-save --prefix bin/node "$node_package"
	fi
	have_node || echo "setup: $node_for needs Node $node_least or newer with npm; please install it, for example from https://nodejs.org" >&2
fi
