#!/usr/bin/python3
"""mutter-cast.py CMD...

Open a screen cast of Mutter's (or GNOME's) first monitor, with nobody clicking, and run CMD with
NODE set to the PipeWire node id of the cast. The cast ends with CMD. CURSOR=0 hides the cursor
(the default), 1 draws it, 2 sends it as metadata.

Exit status: that of CMD; 77 if Python's GLib bindings are missing, or 70 with SLUICE_TEST_MUST; 70 if
Mutter gave no cast.
"""
import os
import signal
import subprocess
import sys

try:
    from gi.repository import Gio, GLib
except ImportError:
    print('mutter-cast.py: python3-gi is not installed (scripts/test installs it)', file=sys.stderr)
    sys.exit(70 if os.environ.get('SLUICE_TEST_MUST') else 77)

SCREEN_CAST = 'org.gnome.Mutter.ScreenCast'


def open_cast(bus):
    """The PipeWire node of a new cast. Mutter ends the cast when this process leaves the bus."""
    def call(path, interface, method, signature, args):
        return bus.call_sync(SCREEN_CAST, path, interface, method,
                             GLib.Variant(signature, args) if signature else None,
                             None, Gio.DBusCallFlags.NONE, 10000, None).unpack()

    session, = call('/org/gnome/Mutter/ScreenCast', SCREEN_CAST, 'CreateSession', '(a{sv})', ({},))
    options = {'cursor-mode': GLib.Variant('u', int(os.environ.get('CURSOR', '0')))}
    # an empty connector name is the primary monitor
    stream, = call(session, SCREEN_CAST + '.Session', 'RecordMonitor', '(sa{sv})', ('', options))
    wait = GLib.MainLoop()
    node = []

    def on_added(_bus, _sender, _path, _interface, _signal, args):
        node.append(args.unpack()[0])
        wait.quit()

    bus.signal_subscribe(SCREEN_CAST, SCREEN_CAST + '.Stream', 'PipeWireStreamAdded', stream, None,
                         Gio.DBusSignalFlags.NONE, on_added)
    call(session, SCREEN_CAST + '.Session', 'Start', None, None)
    GLib.timeout_add_seconds(10, wait.quit)
    if not node:
        wait.run()
    if not node:
        raise RuntimeError('Mutter announced no PipeWire node within 10 s')
    return node[0]


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        bus = Gio.bus_get_sync(Gio.BusType.SESSION, None)
        node = open_cast(bus)
    except (GLib.Error, RuntimeError) as error:
        print('mutter-cast.py: no screen cast: %s' % error, file=sys.stderr)
        return 70
    child = subprocess.Popen(sys.argv[1:], env=dict(os.environ, NODE=str(node)))
    # Told to end: tell CMD, and end when it has. Ctrl-C reaches CMD from the terminal.
    signal.signal(signal.SIGTERM, lambda _number, _frame: child.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == '__main__':
    sys.exit(main())
