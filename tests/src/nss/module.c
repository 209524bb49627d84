/* A name service that is in no file: users, services and hosts that nothing but NSS can tell. */

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <nss.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

/* Longer than netstate waits for a name. */
enum { LATE = 30 };

static const struct { uid_t id; const char *name; } users[] = {
    {4321, "alice"}, {4322, "mallory\033[2J"}, {4323, "late"},
};
static const struct { int port; const char *name; } services[] = {
    {7171, "ledger"}, {7172, "led\033[2J"},
};
static const struct { const char *address, *name; } hosts[] = {
    {"127.7.7.1", "till.example"}, {"127.7.7.2", "till\033[2J"}, {"127.7.7.3", "late.example"},
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void wait_if_late(const char *name) {
    if (!strncmp(name, "late", 4))
        sleep(LATE);
}

/* Puts a name into the caller's buffer, behind room for two pointers. */
static char *keep(const char *name, char *buffer, size_t length, int *error) {
    size_t lists = 2 * sizeof(char *);
    if (length < lists + 64) {
        *error = ERANGE;
        return NULL;
    }
    return strcpy(buffer + lists, name);
}

static enum nss_status user(size_t at, struct passwd *out, char *buffer, size_t length, int *error) {
    wait_if_late(users[at].name);
    char *name = keep(users[at].name, buffer, length, error);
    if (!name)
        return NSS_STATUS_TRYAGAIN;
    *out = (struct passwd){name, "x", users[at].id, 1, "", "/", "/bin/false"};
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_netstatetest_getpwuid_r(uid_t id, struct passwd *out, char *buffer, size_t length, int *error) {
    for (size_t at = 0; at < COUNT(users); at++)
        if (users[at].id == id)
            return user(at, out, buffer, length, error);
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_netstatetest_getpwnam_r(const char *name, struct passwd *out, char *buffer, size_t length, int *error) {
    for (size_t at = 0; at < COUNT(users); at++)
        if (!strcmp(users[at].name, name))
            return user(at, out, buffer, length, error);
    return NSS_STATUS_NOTFOUND;
}

static enum nss_status service(size_t at, struct servent *out, char *buffer, size_t length, int *error) {
    char *name = keep(services[at].name, buffer, length, error);
    if (!name)
        return NSS_STATUS_TRYAGAIN;
    *(char **)buffer = NULL;
    *out = (struct servent){name, (char **)buffer, htons(services[at].port), "tcp"};
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_netstatetest_getservbyport_r(int port, const char *protocol, struct servent *out, char *buffer, size_t length, int *error) {
    for (size_t at = 0; at < COUNT(services); at++)
        if (htons(services[at].port) == port && (!protocol || !strcmp(protocol, "tcp")))
            return service(at, out, buffer, length, error);
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_netstatetest_getservbyname_r(const char *name, const char *protocol, struct servent *out, char *buffer, size_t length, int *error) {
    for (size_t at = 0; at < COUNT(services); at++)
        if (!strcmp(services[at].name, name) && (!protocol || !strcmp(protocol, "tcp")))
            return service(at, out, buffer, length, error);
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_netstatetest_gethostbyaddr_r(const void *address, socklen_t size, int family, struct hostent *out, char *buffer, size_t length, int *error, int *host_error) {
    static __thread char *none[1];
    for (size_t at = 0; at < COUNT(hosts); at++) {
        struct in_addr known;
        inet_pton(AF_INET, hosts[at].address, &known);
        if (family != AF_INET || memcmp(&known, address, sizeof known))
            continue;
        wait_if_late(hosts[at].name);
        char *name = keep(hosts[at].name, buffer, length, error);
        if (!name)
            return NSS_STATUS_TRYAGAIN;
        *out = (struct hostent){name, none, family, size, none};
        return NSS_STATUS_SUCCESS;
    }
    *host_error = HOST_NOT_FOUND;
    return NSS_STATUS_NOTFOUND;
}
