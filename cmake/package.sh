#!/usr/bin/env bash
# Makes dist/vitrine-VERSION-SYSTEM.tar.gz from build/release: unpack anywhere, start ./vitrine, no rights needed.
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=cmake/setup.sh
. "$root/cmake/setup.sh"

tree="$root/build/release"
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:[A-Z]*=//p' "$tree/CMakeCache.txt")
name="vitrine-$version-$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)"
out="$root/dist/$name"
rm -rf "$out" "$out.tar.gz"
cmake --install "$tree" --prefix "$out" --strip >/dev/null

# The C library and what belongs to the graphics driver must be the machine's own. What the driver may use too (the C++ library,
# X11, expat) travels in lib/fallback and is taken only where the machine lacks it: an older copy would break a newer driver.
mkdir -p "$out/lib/fallback"
ldd "$out/bin/vitrine" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | while read -r library; do
    case ${library##*/} in
        libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.* | libresolv.so.* | ld-linux*) ;;
        libGL.so.* | libGLX.so.* | libGLdispatch.so.* | libEGL.so.* | libOpenGL.so.* | libdrm*) ;;
        libstdc++.so.* | libgcc_s.so.* | libX* | libxcb* | libbsd.so.* | libmd.so.* | libexpat.so.* | libz.so.*)
            cp -L "$library" "$out/lib/fallback/" ;;
        *) cp -L "$library" "$out/lib/" ;;
    esac
done

# The two type faces (SIL Open Font License), found through a fontconfig file of our own that adds them to the machine's.
mkdir -p "$out/share/fonts" "$out/share/doc/vitrine/fonts" "$out/etc"
for package in fonts-inter fonts-jetbrains-mono; do
    dpkg-query -L $package 2>/dev/null | grep -E '/(Inter|JetBrainsMono)-(Regular|Italic|SemiBold|Bold)\.(otf|ttf)$' |
        while read -r font; do cp -L "$font" "$out/share/fonts/"; done
    if [ -f "/usr/share/doc/$package/copyright" ]; then
        cp -L "/usr/share/doc/$package/copyright" "$out/share/doc/vitrine/fonts/$package"
    fi
done
cat >"$out/etc/fonts.conf" <<'EOF'
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir prefix="relative">../share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
EOF

cat >"$out/vitrine" <<'EOF'
#!/bin/sh
# Starts Vitrine from wherever this folder lies. Words are passed on: ./vitrine chat -p "74*82=?".
here=$(dirname "$(readlink -f "$0")")
if LC_ALL=C ldd "$here/bin/vitrine" 2>&1 | grep -q 'not found'; then
    LD_LIBRARY_PATH="$here/lib/fallback${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export LD_LIBRARY_PATH
fi
FONTCONFIG_FILE="$here/etc/fonts.conf"
export FONTCONFIG_FILE
if [ $# = 0 ] && [ -z "${DISPLAY-}${WAYLAND_DISPLAY-}" ]; then
    echo "There is no display here: starting the chat in the terminal (./vitrine --help lists what else works)." >&2
    set -- chat
fi
exec "$here/bin/vitrine" "$@"
EOF
chmod +x "$out/vitrine"
rmdir "$out/lib/fallback" 2>/dev/null || true
tar -C "$root/dist" -czf "$out.tar.gz" "$name"
kernels=$("$out/bin/vitrine" --version | sed 's/.*GPU kernels: \(.*\))/\1/')
say "$(du -h "$out.tar.gz" | cut -f1) $out.tar.gz (GPU kernels: $kernels)"
say "It needs the C library $(ldd --version | sed -n '1s/.* //p') or newer."
