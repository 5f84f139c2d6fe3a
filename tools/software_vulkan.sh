#!/usr/bin/env bash
# Puts a Vulkan that needs no GPU (Mesa's lavapipe) into a folder, and a program beside it that runs others
# with it:
#
#   tools/software_vulkan.sh DIR
#   DIR/run target/release/csp-host doctor
#   DIR/run target/release/csp-host self-check --here --device vulkan:software
#
# Needs Debian (apt, dpkg) on x86-64; nothing is installed outside DIR. The packages are of a later release
# than the machine's may be: lavapipe before Mesa 26 crashes on what burn compiles. So they come with their
# own C library, whose loader runs the program (and so is what a program finds itself to be: --here keeps the
# check from starting it again).
set -euo pipefail
dir=$(mkdir -p "${1:?usage: tools/software_vulkan.sh DIR}" && cd "$1" && pwd)
# what an earlier try left would mix with this one's
rm -rf "$dir/apt" "$dir/root" "$dir/run"
mkdir -p "$dir"/apt/{state/lists/partial,cache/archives/partial} "$dir/root"
touch "$dir/apt/state/status"
for suite in trixie trixie-backports; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=amd64] http://deb.debian.org/debian $suite main"
done > "$dir/apt/sources.list"
apt=(apt-get -qq -o "Dir::State=$dir/apt/state" -o "Dir::State::status=$dir/apt/state/status"
  -o "Dir::Cache=$dir/apt/cache" -o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::preferencesparts=/dev/null -o APT::Install-Recommends=false -o APT::Sandbox::User=root)
"${apt[@]}" update
"${apt[@]}" --download-only -y -t trixie-backports install mesa-vulkan-drivers libvulkan1
for package in "$dir"/apt/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
rm -rf "$dir/apt"
libraries=root/usr/lib/x86_64-linux-gnu
[ -e "$dir/$libraries/libvulkan_lvp.so" ] || { echo "the packages hold no lavapipe: $dir/$libraries" >&2; exit 1; }
# from the file's own folder, so that DIR can be moved
echo '{"file_format_version": "1.0.1", "ICD": {"library_path": "./'$libraries'/libvulkan_lvp.so", "api_version": "1.4.0"}}' \
  > "$dir/lavapipe.json"
cat > "$dir/run" <<'RUN'
#!/bin/sh
# Runs a program with this folder's Vulkan.
here=$(cd "$(dirname "$0")" && pwd)
libraries=$here/root/usr/lib/x86_64-linux-gnu
VK_DRIVER_FILES="$here/lavapipe.json" exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$@"
RUN
chmod +x "$dir/run"
echo "$dir/run"
