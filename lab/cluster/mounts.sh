#!/bin/sh
# Makes the mount namespace that it runs in one of a node: mounts.sh NODE_FOLDER RUN_DIR. /var and /run are the node's own,
# and of the machine's /run only RUN_DIR is left. /sys shows the links of the network namespace.
set -eu
node=$1 run_dir=$2
mkdir -p "$node/var/lib" "$node/var/log" "$node/var/tmp" "$node/run" "$node$run_dir" "$node/cgroup"
ln -sfn /run "$node/var/run"

mount --rbind /sys/fs/cgroup "$node/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$node/cgroup" /sys/fs/cgroup
umount -l "$node/cgroup"

# What a kubelet would set on the machine: it reads that it is so already.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    name=${setting%=*}
    echo "${setting#*=}" >"$node/$(basename "$name")"
    mount --bind "$node/$(basename "$name")" "/proc/sys/$name"
done

mount --bind "$run_dir" "$node$run_dir"
mount --rbind "$node/run" /run
mount --bind "$node/var" /var
