#!/bin/sh
# Run as root on a host before its baseline: services of the kinds that start and end by themselves, and an agent that
# watches. What is waited for is said by `systemctl`, not by a clock.
set -e
unit() { cat > "/etc/systemd/system/idle-$1"; }

unit enabled.service << 'UNIT'
[Unit]
Description=Enabled, and always running
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
UNIT

# Started by a timer, and running for a moment: a run may meet it in any state.
unit timed.service << 'UNIT'
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sleep 2
UNIT
unit timed.timer << 'UNIT'
[Timer]
OnActiveSec=1
OnUnitActiveSec=3
AccuracySec=100ms
UNIT

# Started by the first connection to its socket, ends when it is idle.
unit socket.socket << 'UNIT'
[Socket]
ListenStream=/run/idle-socket
UNIT
unit socket.service << 'UNIT'
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/python3 -c "import socket, time; socket.socket(fileno=3).accept(); time.sleep(1)"
UNIT

# The same, and enabled: it starts at boot, and ends by itself.
unit both.socket << 'UNIT'
[Socket]
ListenStream=/run/idle-both
[Install]
WantedBy=sockets.target
UNIT
unit both.service << 'UNIT'
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/python3 -c "import socket, time; s = socket.socket(fileno=3); s.settimeout(2); s.accept(); time.sleep(3)"
SuccessExitStatus=1
[Install]
WantedBy=multi-user.target
UNIT

# An instance for each connection.
unit each.socket << 'UNIT'
[Socket]
ListenStream=/run/idle-each
Accept=yes
UNIT
unit each@.service << 'UNIT'
[Service]
ExecStart=/bin/cat
StandardInput=socket
UNIT

# Started by a file that appears.
unit path.path << 'UNIT'
[Path]
PathExists=/run/idle-path
UNIT
unit path.service << 'UNIT'
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh -c 'sleep 1; rm -f /run/idle-path'
UNIT

# Started by the message bus.
unit bus.service << 'UNIT'
[Unit]
StartLimitIntervalSec=0
[Service]
Type=dbus
BusName=org.example.Idle
ExecStart=/usr/bin/busctl --timeout=2 monitor org.example.Nobody
TimeoutStartSec=2
UNIT
mkdir -p /etc/dbus-1/system-services /usr/share/dbus-1/system-services
printf '[D-BUS Service]\nName=org.example.Idle\nExec=/bin/false\nUser=root\nSystemdService=idle-bus.service\n' \
  > /usr/share/dbus-1/system-services/org.example.Idle.service

# Masked, with a drop-in, and referred to by a unit that is loaded now and then.
ln -s /dev/null /etc/systemd/system/idle-masked.service
mkdir -p /etc/systemd/system/idle-masked.service.d
printf '[Unit]\nDescription=Masked, and described\n' > /etc/systemd/system/idle-masked.service.d/x.conf
unit refers.service << 'UNIT'
[Unit]
Wants=idle-masked.service idle-nowhere.service idle-web@loaded.service
After=idle-masked.service
[Service]
ExecStart=/bin/sleep infinity
UNIT
unit web@.service << 'UNIT'
[Unit]
Description=Instance %i
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
UNIT

unit agent.service << 'UNIT'
[Service]
Type=notify
ExecStart=/usr/bin/python3 /opt/idle/agent.pyz run --state /var/lib/idle-agent --dcr /opt/idle/rule.json --chunks= \
  --config-address= --jitter 0
Restart=always
UNIT

systemctl daemon-reload
systemctl --quiet enable idle-web@one.service
systemctl --quiet enable --now idle-enabled.service idle-both.socket idle-both.service
systemctl start idle-timed.timer idle-socket.socket idle-each.socket idle-path.path idle-web@one.service
chmod 755 /opt/idle
systemctl start idle-agent.service
