#!/usr/bin/env bash
# Puts an ARM Python with onnxruntime into a folder, for `csp-tools bench infer --onnxruntime-aarch64 DIR`.
#
#   tools/onnxruntime_aarch64.sh DIR
#
# Needs Debian (apt, dpkg), pip and unzip; nothing is installed outside DIR. Debian's own packages of the
# machine's release are unpacked as a root for qemu-user, the wheels beside them.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir -p "$dir"/apt/{state/lists/partial,cache/archives/partial} "$dir"/{debs,wheels,root}
touch "$dir/apt/state/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=arm64] http://deb.debian.org/debian $release main" \
  > "$dir/apt/sources.list"
apt=(apt-get -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$dir/apt/state"
  -o "Dir::State::status=$dir/apt/state/status" -o "Dir::Cache=$dir/apt/cache"
  -o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root)
"${apt[@]}" -qq update
(cd "$dir/debs" && "${apt[@]}" -qq download libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 python3.11-minimal \
  libpython3.11-minimal libpython3.11-stdlib libssl3 libbz2-1.0 liblzma5 libffi8 libuuid1)
for package in "$dir"/debs/*.deb; do dpkg -x "$package" "$dir/root"; done
"${PYTHON:-python3}" -m pip download -q --only-binary=:all: --platform manylinux_2_28_aarch64 \
  --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 --python-version 3.11 \
  -d "$dir/wheels" numpy onnxruntime
for wheel in "$dir"/wheels/*.whl; do unzip -qo "$wheel" -d "$dir/root/site"; done
# onnxruntime asks the system for its core, and dies of an answer about another kind of processor
mkdir -p "$dir/root/proc"
for core in 0 1 2 3; do
  printf 'processor\t: %d\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd03\nCPU revision\t: 4\n\n' "$core"
done > "$dir/root/proc/cpuinfo"
echo "$dir/root"
