/* Linked into the static binary: keeps name resolution inside of it.
 *
 * The services that /etc/nsswitch.conf names are shared libraries, but for "files" and "dns", which glibc has in itself
 * since 2.34. A static program that loads one gets a second C library beside its own; where the two are of different
 * versions, it crashes (SIGFPE in getaddrinfo on a Debian 13 with nss-myhostname, from a build on Debian 12). So it looks
 * into /etc/hosts, then asks the servers of /etc/resolv.conf, whatever nsswitch.conf says. */
#include <features.h>
#include <nss.h>

#if !__GLIBC_PREREQ(2, 34)
#error "a static pgvpd needs glibc 2.34 or later to be built, which has \"files\" and \"dns\" in itself"
#endif

/* Before main, and so before any thread. */
__attribute__((constructor)) static void use_built_in_services(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("services", "files");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
}
