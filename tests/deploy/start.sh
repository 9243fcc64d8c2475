# Starts the image as a kubelet's runtime would, where no runtime works: crun and runc want a cgroup hierarchy that
# nested machines do not have. Root read-only, /proc of the host (hostPID), no new privileges, the capabilities of
# the chart and no others.
#
# usage: start.sh ROOT CAPABILITIES CGROUP2 PINS CONFIG STATE ARGUMENT...
set -e
root=$1 keep=$2 cgroup=$3 pins=$4 config=$5 state=$6
shift 6
mount --make-rprivate /
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --bind -o ro /sys "$root/sys"
mount --bind -o ro "$cgroup" "$root/sys/fs/cgroup"
mount --bind -o ro "$pins" "$root/etc/mcp-monitor/pins"
mount --bind -o ro "$config" "$root/etc/mcp-monitor/config"
mount --bind "$state" "$root/var/lib/mcp-monitor"
mount -o remount,bind,ro "$root"
all=$(capsh --print | sed -n 's/^Bounding set =//p' | tr , '\n')
drop=$(printf '%s\n' $all | grep -vxF "$(echo "$keep" | tr , '\n')" | paste -sd,)
exec capsh --chroot="$root" --no-new-privs --drop="$drop" --shell=/mcp-monitor -- "$@"
