"""The bootstrap: the shell text that turns a rented machine into an instance, whoever rents it out.

A machine runs it at each start (Vast.ai's `onstart`, Google's `startup-script`). It fetches the agent's code from the
server over TLS that trusts our authority alone, checks its digest, and starts it with a single-use token. It needs
bash, Python 3.11 (or apt-get to install one) and a network; no root capability, FUSE or systemd.

Before anything else it writes down how the machine ends itself (`end` in the run directory), and begins to wait: a
machine that has no identity in time bills for nothing, and ends.

What surrounds it may set `DUMONT_RUN` and `DUMONT_BASE`, the run directory and the parent of workspace and data, and
`DUMONT_PORTS`, the three ports to listen at.
"""

import json
import shlex

from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Boot

SCRIPT_BYTES_MAX = 4_000
"""Vast.ai documents 4,096 for `onstart` and its arguments together; 4,048 is also quoted (contract, 4.1)."""

SSH_PORT, HTTP_PORT, STREAM_PORT = 7022, 7080, 7443
"""Where an instance of a cloud listens inside. `VAST_TCP_PORT_<n>`, where set, is what that is outside."""

# The first part needs nothing but Python: it writes the boot record and lays the agent's code out.
_PREPARE = r"""
import hashlib,io,json,os,ssl,sys,urllib.request as u,zipfile
b=json.loads(sys.argv[1]);e=os.environ.get
run=e('DUMONT_RUN','/var/lib/dumont');base=e('DUMONT_BASE','/')
port=b.pop('agent_port');sha=b.pop('agent_sha256')
code=run+'/code-'+sha[:16]
os.makedirs(run,0o700,exist_ok=True)
if not os.path.isdir(code):
    t=ssl.create_default_context(cadata=b['ca_pem']);t.check_hostname=False
    z=u.urlopen('https://%s:%d/agent/%s.zip'%(b['server_host'],port,sha),timeout=60,context=t).read()
    if hashlib.sha256(z).hexdigest()!=sha:sys.exit('the agent that was fetched is not the one that was announced')
    zipfile.ZipFile(io.BytesIO(z)).extractall(code+'.new');os.rename(code+'.new',code)
def google(path):
    h=e('GCE_METADATA_HOST','metadata.google.internal')
    r=u.Request('http://'+h+'/computeMetadata/v1/instance/network-interfaces/0/'+path,headers={'Metadata-Flavor':'Google'})
    return u.urlopen(r,timeout=5).read().decode().strip()
host=e('PUBLIC_IPADDR','').strip()
if not host:
    for path in ('access-configs/0/external-ip','ip'):
        try:host=host or google(path)
        except OSError:pass
ports=e('DUMONT_PORTS','7022,7080,7443').split(',')
for n,p,inside in zip(('ssh','http','stream'),ports,(7022,7080,7443)):
    b[n+'_port']=int(p);b[n+'_port_outside']=int(e('VAST_TCP_PORT_%d'%inside) or 0)
b.update(host=host or '127.0.0.1',workspace_dir=base+'workspace',data_dir=base+'.dumont')
for d in b['workspace_dir'],b['data_dir']:os.makedirs(d,exist_ok=True)
f=run+'/boot.json';open(f+'.new','w').write(json.dumps(b));os.chmod(f+'.new',0o600);os.rename(f+'.new',f)
print(code)
"""

_SCRIPT = r"""#!/bin/bash
run=${{DUMONT_RUN:-/var/lib/dumont}}; mkdir -p "$run"
exec >>"$run/bootstrap.log" 2>&1
set -u
{will}new() {{ "$1" -c 'import sys;sys.exit(sys.version_info<(3,11))' 2>/dev/null; }}
py=; for p in "$run/venv/bin/python" python3 python3.13 python3.12 python3.11; do new "$p" && py=$p && break; done
[ -n "$py" ] || {{ apt-get update && apt-get install -y python3-venv; py=python3; }}
for try in 1 2 3 4 5 6 7 8 9 10; do
code=$("$py" - {boot} <<'END'
{prepare}
END
) && break; sleep $try
done
[ -n "${{code:-}}" ] || exit 1
if ! PYTHONPATH=$code "$py" -m dumont.agent.ready; then
"$py" -m venv "$run/venv" || {{ apt-get update && apt-get install -y python3-venv; "$py" -m venv "$run/venv"; }}
py=$run/venv/bin/python; "$py" -m pip install -q -r "$code/requirements.txt" || exit 1
fi
PYTHONPATH=$code PYTHONDONTWRITEBYTECODE=1 setsid nohup "$py" -m dumont.agent.watchdog "$run" </dev/null &
"""


SHUTDOWN = r"""#!/bin/bash
run=${DUMONT_RUN:-/var/lib/dumont}
preempted=http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/preempted
[ "$(curl -sm5 -H Metadata-Flavor:Google $preempted)" = TRUE ] || exit 0
ended() { cat "$run/ended" 2>/dev/null; }
was=$(ended)
for ((i = 0; i < 440; i++)); do [ "$(ended)" = "$was" ] || exit 0; sleep 0.25; done
"""
"""What a machine at Google does first when it is shut down: one that is taken back stays up while its workspace moves.

Without it the guest begins to stop everything in the same second as the notice. It waits for the watchdog's word that a
higher epoch exists, and not longer than a notice can be (contract §5).
"""

_WILL = r"""cat >"$run/end" <<'END'
{will}
END
"""
_LIMIT = r"""(cd "$run"
setsid bash -c 'sleep {seconds:g};while [ ! -e identity.crt ];do echo never joined;bash end;sleep 60;done' </dev/null &)
"""


def limit(will: str, join_within_s: float) -> str:
    """The part that writes the last will down in `$run` and, unless it is 0, waits so many seconds for an identity."""
    if not will:
        return ""
    return _WILL.format(will=will) + (_LIMIT.format(seconds=join_within_s) if join_within_s else "")


def script(boot: Boot, machine: Machine, will: str = "") -> str:
    """The text, at most SCRIPT_BYTES_MAX long. Raises ProviderError when it can't be that short.

    `will` is shell text that ends the machine; without it, it never ends itself.
    """
    known = {
        "instance_id": boot.instance_id,
        "server_host": boot.server_host,
        "server_port": boot.server_port,
        "ca_pem": boot.ca_pem,
        "join_token": boot.join_token,
        "machine": machine.value,
        "agent_port": boot.agent_port,
        "agent_sha256": boot.agent_sha256,
        "orphan_after_s": boot.orphan_after_s,
    }
    told = shlex.quote(json.dumps(known, separators=(",", ":")))
    text = _SCRIPT.format(prepare=_PREPARE.strip(), boot=told, will=limit(will, boot.join_within_s))
    if len(text.encode()) > SCRIPT_BYTES_MAX:
        raise ProviderError(f"The bootstrap would have {len(text.encode())} bytes, {SCRIPT_BYTES_MAX} are allowed.")
    return text
