# shellcheck shell=sh
# look RULE: prints what of the path from Azure to the tables is on this host, one name=value a line. Changes nothing.
chunks=/etc/opt/microsoft/azuremonitoragent/config-cache/configchunks
has() { if [ -n "$1" ]; then echo 1; else echo 0; fi; }
socket() { has "$(grep -F "@CAgentStream_CloudAgentInfo_$1_default_fluent.socket" /proc/net/unix)"; }
ama=$(systemctl is-active azuremonitoragent 2>/dev/null)
named=$(grep -lF ChangeTracking-Linux "$chunks"/*.json 2>/dev/null)
rule=$(has "$(grep -liF -e "$1" "$chunks"/*.json 2>/dev/null)")
config=$(socket config)
data=$(socket ChangeTracking-Linux)
echo "ama=$ama"
echo "cxp=$(systemctl is-active cxp 2>/dev/null)"
echo "chunks=$(has "$named")"
echo "rule=$rule"
echo "config_socket=$config"
echo "data_socket=$data"
[ "$ama $rule $config $data" != "active 1 1 1" ] || echo ready=1
