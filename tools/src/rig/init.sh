#!/bin/busybox sh
# The first program of the emulated board: loads the drivers, mounts the card, then does what the other end
# of the serial console asks for, a word a line.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mkdir -p /proc /sys /dev /data /run /tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# what is asked for is not to be read as an answer
stty -echo
while read -r module; do
  insmod "/modules/$module.ko" || echo "rig: $module does not load"
done </modules.list

# Drivers find their devices a moment after they are loaded.
for device in /dev/vda /dev/ttyUSB0 /dev/video0 /dev/watchdog /dev/gpiochip0; do
  tries=0
  while [ ! -e "$device" ] && [ $tries -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
  [ -e "$device" ] || echo "rig: no $device"
done
mount -t ext4 -o noatime /dev/vda /data || echo "rig: the card does not mount"
echo "rig: up $(cut -d ' ' -f 1 /proc/uptime)"

pid=
while read -r word argument; do
  case $word in
    selftest) csp-device selftest --config /trap.toml --json; echo "rig: ended $?" ;;
    start) csp-device run --config /trap.toml --json & pid=$! ;;
    stop) kill -INT $pid; wait $pid; echo "rig: ended $?" ;;
    hang) kill -STOP $pid; echo "rig: hung" ;;
    unload) rmmod "$argument" && echo "rig: unloaded" ;;
    load) insmod "/modules/$argument.ko" && echo "rig: loaded" ;;
    watchdog) echo "rig: watchdog $(cat /sys/class/watchdog/watchdog0/state)" ;;
    say) eval "$argument" ;;
    poweroff) umount /data && echo "rig: unmounted"; poweroff -f ;;
    *) echo "rig: $word is not understood" ;;
  esac
done
echo "rig: the console is closed"
poweroff -f
